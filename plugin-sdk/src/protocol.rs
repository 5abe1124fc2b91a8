//! Outputs in the JSON of the Open Inference Protocol, for plugins that only preprocess.

use std::fmt::Write as _;

use crate::datatype::{DataType, Element};
use crate::error::{Error, Result};
use crate::message::{Outputs, Response};
use crate::tensor::Tensor;

/// `{"outputs":[{"name":…,"datatype":…,"shape":[…],"data":[…]}]}`.
pub(crate) fn to_response(outputs: &Outputs) -> Result<Response> {
    let mut json = String::from("{\"outputs\":[");
    for (index, tensor) in outputs.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push_str("{\"name\":");
        push_string(&mut json, &tensor.name);
        json.push_str(",\"datatype\":\"");
        json.push_str(tensor.datatype.as_str());
        json.push_str("\",\"shape\":");
        push_list(&mut json, &tensor.shape);
        json.push_str(",\"data\":");
        push_data(&mut json, tensor)?;
        json.push('}');
    }
    json.push_str("]}");
    Ok(Response::new("application/json", json))
}

fn push_data(json: &mut String, tensor: &Tensor) -> Result<()> {
    match tensor.datatype {
        DataType::Bool => push_list(json, &tensor.as_bools()?.collect::<Vec<_>>()),
        DataType::Uint8 => push_list(json, &tensor.elements::<u8>()?),
        DataType::Uint16 => push_list(json, &tensor.elements::<u16>()?),
        DataType::Uint32 => push_list(json, &tensor.elements::<u32>()?),
        DataType::Uint64 => push_list(json, &tensor.elements::<u64>()?),
        DataType::Int8 => push_list(json, &tensor.elements::<i8>()?),
        DataType::Int16 => push_list(json, &tensor.elements::<i16>()?),
        DataType::Int32 => push_list(json, &tensor.elements::<i32>()?),
        DataType::Int64 => push_list(json, &tensor.elements::<i64>()?),
        DataType::Fp32 => push_floats::<f32>(json, tensor)?,
        DataType::Fp64 => push_floats::<f64>(json, tensor)?,
        DataType::Bytes => {
            for (index, text) in tensor.as_byte_strings()?.strings()?.into_iter().enumerate() {
                json.push(if index == 0 { '[' } else { ',' });
                push_string(json, text);
            }
            json.push_str(if tensor.data.is_empty() { "[]" } else { "]" });
        }
        DataType::Fp16 | DataType::Bf16 => {
            return Err(Error::internal(format!(
                "output '{}' is {}, which JSON has no form for: write a postprocess",
                tensor.name, tensor.datatype
            )));
        }
    }
    Ok(())
}

fn push_floats<T: Element + Into<f64> + std::fmt::Display>(json: &mut String, tensor: &Tensor) -> Result<()> {
    let values = tensor.elements::<T>()?;
    if let Some(value) = values.iter().find(|&&value| !Into::<f64>::into(value).is_finite()) {
        return Err(Error::internal(format!(
            "output '{}' has an element of {value}, which JSON has no form for",
            tensor.name
        )));
    }
    push_list(json, &values);
    Ok(())
}

fn push_list<T: std::fmt::Display>(json: &mut String, values: &[T]) {
    json.push('[');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        // Writing to a String does not fail.
        let _ = write!(json, "{value}");
    }
    json.push(']');
}

fn push_string(json: &mut String, text: &str) {
    json.push('"');
    for letter in text.chars() {
        match letter {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            control if control < ' ' => {
                let _ = write!(json, "\\u{:04x}", u32::from(control));
            }
            other => json.push(other),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(tensors: impl Into<Vec<Tensor>>) -> String {
        String::from_utf8(to_response(&Outputs::new(tensors)).unwrap().body).unwrap()
    }

    #[test]
    fn each_kind_of_element_has_its_json() {
        let json = body([
            Tensor::from_f32("a\"\n", [1, 2], [1.5, -2.0]).unwrap(),
            Tensor::from_bools("b", [2], &[true, false]).unwrap(),
            Tensor::from_byte_strings("c", [2], ["x", "\\"]).unwrap(),
            Tensor::from_elements("d", [1], &[i64::MIN]).unwrap(),
        ]);
        assert_eq!(
            json,
            "{\"outputs\":[{\"name\":\"a\\\"\\u000a\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[1.5,-2]},\
             {\"name\":\"b\",\"datatype\":\"BOOL\",\"shape\":[2],\"data\":[true,false]},\
             {\"name\":\"c\",\"datatype\":\"BYTES\",\"shape\":[2],\"data\":[\"x\",\"\\\\\"]},\
             {\"name\":\"d\",\"datatype\":\"INT64\",\"shape\":[1],\"data\":[-9223372036854775808]}]}"
        );
        assert_eq!(body([]), "{\"outputs\":[]}");
        assert!(
            body([Tensor::from_bytes("e", DataType::Bytes, [0], vec![]).unwrap()]).contains("\"data\":[]")
        );
    }

    #[test]
    fn what_json_cannot_say_is_an_error() {
        let nan = Tensor::from_f32("x", [1], [f32::NAN]).unwrap();
        let error = to_response(&Outputs::new([nan])).unwrap_err();
        assert_eq!(error.message, "output 'x' has an element of NaN, which JSON has no form for");
        let half = Tensor::from_bytes("x", DataType::Fp16, [1], vec![0, 0]).unwrap();
        assert!(to_response(&Outputs::new([half])).is_err());
    }
}
