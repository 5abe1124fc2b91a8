//! Generated tensors as the body of a v2 infer request.
//!
//! Owns the two encodings. Every output is asked for, in the same encoding.

use bytes::Bytes;
use serde_json::{Number, Value, json};

use super::super::error::ClientError;
use super::args::Encoding;
use crate::model::tensor::{BytesElements, DataType, Tensor};

/// The body of an infer request.
pub(super) struct InferBody {
    /// The bytes to send.
    pub(super) body: Bytes,
    /// The length of the JSON part, in bytes, if tensors follow it.
    pub(super) json_length: Option<usize>,
}

/// Encodes the tensors as one request.
///
/// # Errors
/// [`ClientError::Usage`] for a datatype that has no JSON form.
pub(super) fn encode(tensors: &[Tensor], encoding: Encoding) -> Result<InferBody, ClientError> {
    match encoding {
        Encoding::Binary => Ok(encode_binary(tensors)),
        Encoding::Json => {
            let inputs: Vec<Value> = tensors.iter().map(json_input).collect::<Result<_, _>>()?;
            let body = json!({ "inputs": inputs, "parameters": { "binary_data_output": false } });
            Ok(InferBody { body: body.to_string().into(), json_length: None })
        }
    }
}

fn encode_binary(tensors: &[Tensor]) -> InferBody {
    let describe = |tensor: &Tensor| {
        json!({
            "name": tensor.name,
            "datatype": tensor.datatype.as_str(),
            "shape": tensor.shape,
            "parameters": { "binary_data_size": tensor.data.len() },
        })
    };
    let inputs: Vec<Value> = tensors.iter().map(describe).collect();
    let mut body =
        json!({ "inputs": inputs, "parameters": { "binary_data_output": true } }).to_string().into_bytes();
    let json_length = Some(body.len());
    for tensor in tensors {
        body.extend_from_slice(&tensor.data);
    }
    InferBody { body: body.into(), json_length }
}

fn json_input(tensor: &Tensor) -> Result<Value, ClientError> {
    Ok(json!({
        "name": tensor.name,
        "datatype": tensor.datatype.as_str(),
        "shape": tensor.shape,
        "data": json_elements(tensor)?,
    }))
}

fn json_elements(tensor: &Tensor) -> Result<Vec<Value>, ClientError> {
    let Some(width) = tensor.datatype.width() else {
        let words = BytesElements::new(&tensor.data).filter_map(Result::ok);
        return Ok(words.map(|word| Value::from(String::from_utf8_lossy(word))).collect());
    };
    tensor.data.chunks_exact(width).map(|element| json_element(tensor, element)).collect()
}

fn json_element(tensor: &Tensor, element: &[u8]) -> Result<Value, ClientError> {
    let mut bytes = [0_u8; 8];
    bytes[..element.len()].copy_from_slice(element);
    let unsigned = u64::from_le_bytes(bytes);
    Ok(match tensor.datatype {
        DataType::Bool => Value::Bool(unsigned != 0),
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 | DataType::Uint64 => Value::from(unsigned),
        DataType::Int8 => Value::from(unsigned as i8),
        DataType::Int16 => Value::from(unsigned as i16),
        DataType::Int32 => Value::from(unsigned as i32),
        DataType::Int64 => Value::from(unsigned as i64),
        DataType::Fp32 => shortest(f32::from_bits(unsigned as u32)),
        DataType::Fp64 => Value::from(f64::from_bits(unsigned)),
        DataType::Fp16 | DataType::Bf16 | DataType::Bytes => {
            return Err(ClientError::Usage(format!(
                "input '{}' is {}, which has no JSON form: use --encoding binary",
                tensor.name, tensor.datatype
            )));
        }
    })
}

/// The fewest digits that give the same FP32, as other clients write it.
fn shortest(value: f32) -> Value {
    let digits = value.to_string().parse().ok().and_then(Number::from_f64);
    digits.map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    fn tensor(datatype: DataType, data: &[u8]) -> Tensor {
        let elements = datatype.width().map_or(1, |width| data.len() / width);
        Tensor::new("x", datatype, vec![elements], data.to_vec()).unwrap()
    }

    #[test]
    fn binary_puts_the_tensors_after_the_json_in_order() {
        let tensors = [tensor(DataType::Uint8, &[1, 2, 3]), tensor(DataType::Fp16, &f16::ONE.to_le_bytes())];
        let encoded = encode(&tensors, Encoding::Binary).unwrap();
        let (head, rest) = encoded.body.split_at(encoded.json_length.unwrap());
        assert_eq!(rest, [1, 2, 3, 0, 0x3c]);
        let head: Value = serde_json::from_slice(head).unwrap();
        assert_eq!(head["inputs"][1]["parameters"]["binary_data_size"], 2);
        assert_eq!(head["parameters"]["binary_data_output"], true);
    }

    #[test]
    fn json_writes_each_datatype_by_its_value() {
        let negative = (-2_i64).to_le_bytes();
        let cases = [
            (tensor(DataType::Bool, &[0, 1]), json!([false, true])),
            (tensor(DataType::Uint8, &[255]), json!([255])),
            (tensor(DataType::Uint16, &[1, 2]), json!([513])),
            (tensor(DataType::Uint32, &u32::MAX.to_le_bytes()), json!([u32::MAX])),
            (tensor(DataType::Uint64, &u64::MAX.to_le_bytes()), json!([u64::MAX])),
            (tensor(DataType::Int8, &negative[..1]), json!([-2])),
            (tensor(DataType::Int16, &negative[..2]), json!([-2])),
            (tensor(DataType::Int32, &negative[..4]), json!([-2])),
            (tensor(DataType::Int64, &negative), json!([-2])),
            (tensor(DataType::Fp32, &0.1_f32.to_le_bytes()), json!([0.1])),
            (tensor(DataType::Fp64, &0.1_f64.to_le_bytes()), json!([0.1])),
            (tensor(DataType::Bytes, b"\x02\0\0\0ab"), json!(["ab"])),
        ];
        for (tensor, expected) in cases {
            let encoded = encode(std::slice::from_ref(&tensor), Encoding::Json).unwrap();
            let body: Value = serde_json::from_slice(&encoded.body).unwrap();
            assert_eq!(body["inputs"][0]["data"], expected, "{}", tensor.datatype);
            assert!(encoded.json_length.is_none());
        }
    }

    #[test]
    fn half_floats_have_no_json_form() {
        for datatype in [DataType::Fp16, DataType::Bf16] {
            let error = encode(&[tensor(datatype, &[0, 0])], Encoding::Json).err().unwrap();
            assert!(error.to_string().contains("--encoding binary"), "{error}");
        }
    }
}
