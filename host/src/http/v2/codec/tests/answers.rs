//! Answers as they are written.

use super::super::{InferResponse, ParameterValue, Parameters, ResponseOutput, encode};
use crate::error::ErrorCode;
use crate::model::tensor::{DataType, Tensor, push_bytes_element};

const NONE: &Parameters = &Vec::new();

fn answer(outputs: Vec<ResponseOutput>) -> InferResponse<'static> {
    InferResponse { id: None, model_name: "m", model_version: "1", parameters: NONE, outputs }
}

fn output(datatype: DataType, shape: &[usize], data: &[u8], binary: bool) -> ResponseOutput {
    ResponseOutput { tensor: Tensor::new("y", datatype, shape.to_vec(), data.to_vec()).unwrap(), binary }
}

#[test]
fn keys_come_in_the_protocols_order_and_data_is_flat() {
    let parameters = vec![
        ("a\"".to_owned(), ParameterValue::Int(-1)),
        ("b".to_owned(), ParameterValue::Double(1.5)),
        ("c".to_owned(), ParameterValue::Bool(true)),
        ("d".to_owned(), ParameterValue::String("é\n".to_owned())),
        ("e".to_owned(), ParameterValue::Uint(u64::MAX)),
    ];
    let data = [1_f32, 0.1, -2.5e10, 0.0].map(f32::to_le_bytes).concat();
    let mut response = answer(vec![
        output(DataType::Fp32, &[2, 2], &data, false),
        output(DataType::Bool, &[2], &[1, 0], false),
    ]);
    (response.id, response.parameters) = (Some("7"), &parameters);
    let encoded = encode(&response).unwrap();
    assert_eq!(
        String::from_utf8(encoded.head).unwrap(),
        concat!(
            r#"{"id":"7","model_name":"m","model_version":"1","#,
            r#""parameters":{"a\"":-1,"b":1.5,"c":true,"d":"é\n","e":18446744073709551615},"outputs":["#,
            r#"{"name":"y","datatype":"FP32","shape":[2,2],"data":[1.0,0.1,-25000000000.0,0.0]},"#,
            r#"{"name":"y","datatype":"BOOL","shape":[2],"data":[true,false]}]}"#
        )
    );
    assert_eq!((encoded.blobs.len(), encoded.json_length), (0, None));
}

#[test]
fn the_header_is_sent_only_with_bytes_behind_the_json() {
    let empty = encode(&answer(vec![output(DataType::Fp16, &[0], &[], true)])).unwrap();
    assert_eq!((empty.json_length, empty.content_type()), (None, "application/json"));
    assert!(empty.head.ends_with(br#""shape":[0],"parameters":{"binary_data_size":0}}]}"#));

    let both = encode(&answer(vec![
        output(DataType::Fp16, &[0], &[], true),
        output(DataType::Bf16, &[1], &[1, 2], true),
        output(DataType::Uint8, &[1], &[9], false),
        output(DataType::Uint8, &[1], &[8], true),
    ]))
    .unwrap();
    assert_eq!((both.json_length, both.content_type()), (Some(both.head.len()), "application/octet-stream"));
    assert_eq!(both.blobs, [[1, 2].as_slice(), &[8]]);
    assert_eq!(both.content_length(), both.head.len() + 3);
}

#[test]
fn what_has_no_json_form_is_refused_with_the_remedy() {
    let mut text = Vec::new();
    push_bytes_element(&mut text, b"ok").unwrap();
    push_bytes_element(&mut text, b"\xff").unwrap();
    let cases = [
        (
            output(DataType::Fp32, &[2], &[0, 0, 0, 0, 0, 0, 0xc0, 0x7f], false),
            "output 'y' element 1: NaN and",
        ),
        (output(DataType::Fp64, &[1], &f64::INFINITY.to_le_bytes(), false), "output 'y' element 0: NaN and"),
        (
            output(DataType::Bytes, &[2], &text, false),
            "output 'y' element 1: it is not UTF-8 and has no JSON",
        ),
        (output(DataType::Bf16, &[1], &[0, 0], false), "tensor 'y': BF16 has no JSON form, send or request"),
    ];
    for (output, wanted) in cases {
        let error = encode(&answer(vec![output])).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert!(error.message.starts_with(wanted) && error.message.contains("binary_data"), "{error}");
    }
}

#[test]
fn a_tensor_that_contradicts_itself_is_the_servers_fault() {
    for binary in [false, true] {
        let mut wrong = output(DataType::Fp32, &[1], &[0; 4], binary);
        wrong.tensor.shape = vec![3];
        assert_eq!(encode(&answer(vec![wrong])).unwrap_err().code, ErrorCode::Internal);
    }
}
