//! Rows and columns, there and back, and what is refused.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Form, RowRequest, Takes, write};
use crate::error::ErrorCode;
use crate::model::tensor::{DataType, Tensor, push_bytes_element};

const ONE: &[Takes<'_>] = &[("x", DataType::Fp32, 3)];
const TWO: &[Takes<'_>] = &[("a", DataType::Int32, 2), ("t", DataType::Bytes, 2)];

fn read(body: &[u8], inputs: &[Takes<'_>], most_bytes: usize) -> Result<RowRequest, crate::error::Error> {
    super::read(body, inputs, most_bytes, Instant::now() + Duration::from_secs(3600))
}

fn parsed(body: &Value, inputs: &[Takes<'_>]) -> Result<RowRequest, crate::error::Error> {
    read(body.to_string().as_bytes(), inputs, 1 << 20)
}

fn floats(name: &str, shape: &[usize], values: &[f32]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::new(name, DataType::Fp32, shape.to_vec(), data).unwrap()
}

fn texts(name: &str, shape: &[usize], values: &[&[u8]]) -> Tensor {
    let mut data = Vec::new();
    values.iter().for_each(|value| push_bytes_element(&mut data, value).unwrap());
    Tensor::new(name, DataType::Bytes, shape.to_vec(), data).unwrap()
}

fn written(outputs: &[Tensor], form: Form) -> Value {
    serde_json::from_slice(&write(outputs, form).unwrap()).unwrap()
}

#[test]
fn rows_of_one_input_are_its_values() {
    for (rows, shape, count) in [
        (json!([[1, 2.5], [3, 4]]), &[2, 2][..], 2),
        (json!([1, 2.5, 3, 4]), &[4], 4),
        (json!([[[1], [2.5]], [[3], [4]]]), &[2, 2, 1], 2),
        (json!([{"x": [1, 2.5]}, {"x": [3, 4]}]), &[2, 2], 2),
        (json!([{"x": 1}, {"x": 2.5}, {"x": 3}, {"x": 4}]), &[4], 4),
    ] {
        let request = parsed(&json!({"signature_name": "serving_default", "instances": rows}), ONE).unwrap();
        assert_eq!(request.inputs, [floats("x", shape, &[1.0, 2.5, 3.0, 4.0])], "{rows}");
        assert_eq!(request.form, Form::Rows(count));
    }
}

#[test]
fn rows_of_several_inputs_are_objects() {
    let rows = json!({"instances": [{"a": [1, 2], "t": "one"}, {"t": {"b64": "/wA="}, "a": [3, 4]}]});
    let request = parsed(&rows, TWO).unwrap();
    assert_eq!(request.inputs[0].shape, [2, 2]);
    assert_eq!(request.inputs[1], texts("t", &[2], &[b"one", b"\xff\0"]));
    let columns = json!({"inputs": {"t": ["one", {"b64": "/wA="}], "a": [[1, 2], [3, 4]]}});
    let same = parsed(&columns, TWO).unwrap();
    assert_eq!((same.inputs, same.form), (request.inputs, Form::Columns));
    let whole = parsed(&json!({"inputs": [[1, 2], [3, 4]]}), ONE).unwrap();
    assert_eq!(whole.inputs, [floats("x", &[2, 2], &[1.0, 2.0, 3.0, 4.0])]);
}

#[test]
fn what_does_not_fit_is_named() {
    for (body, inputs, told) in [
        (json!([]), ONE, "expected an object"),
        (json!({}), ONE, "expected {\"instances\""),
        (json!({"instances": [1], "inputs": [1]}), ONE, "both 'instances' and 'inputs'"),
        (json!({"instances": []}), ONE, "there are no rows"),
        (json!({"instances": 5}), ONE, "expected an array"),
        (json!({"instances": [[1, 2], [3]]}), ONE, "tensor 'x': dimension 1"),
        (json!({"instances": ["a"]}), ONE, "'x'"),
        (json!({"instances": [{"y": 1}]}), ONE, "'y' is no input of the model, it takes 'x'"),
        (json!({"instances": [1]}), TWO, "expected a row as an object of 'a', 't'"),
        (json!({"instances": [{"a": 1}]}), TWO, "a row lacks 't'"),
        (json!({"instances": [{"a": 1, "t": "x"}, {"a": [1], "t": "x"}]}), TWO, "instances"),
        (json!({"instances": [{"a": 1, "t": {"b64": "a"}}]}), TWO, "'b64' is no base64"),
        (json!({"instances": [{"a": 1, "t": {"b64": "YQ==", "c": 1}}]}), TWO, "nothing else"),
        (json!({"inputs": {"a": [1]}}), TWO, "'t' is missing"),
        (json!({"inputs": [1]}), TWO, "expected an object of 'a', 't'"),
    ] {
        let error = parsed(&body, inputs).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{body}");
        assert!(error.message.contains(told), "{body}: {error}");
    }
    let twice = br#"{"instances": [{"a": 1, "a": 2, "t": "x"}]}"#;
    assert!(read(twice, TWO, 99).unwrap_err().message.contains("given twice"));
    let deep = format!("{{\"instances\": {}1{}}}", "[".repeat(60), "]".repeat(60));
    assert!(read(deep.as_bytes(), ONE, 99).unwrap_err().message.contains("deeper"));
    let large = parsed(&json!({"instances": vec![0; 300_000]}), ONE).unwrap_err();
    assert_eq!(large.code, ErrorCode::PayloadTooLarge);
    let many: Vec<Value> = (0..2000).map(|_| json!({"a": 1, "t": "x".repeat(600)})).collect();
    assert_eq!(parsed(&json!({"instances": many}), TWO).unwrap_err().code, ErrorCode::PayloadTooLarge);
}

#[test]
fn data_nests_no_deeper_than_the_model_and_is_read_in_time() {
    let deep = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        read(format!("{{\"instances\": {open}1{close}}}").as_bytes(), ONE, 99)
    };
    assert_eq!(deep(3).unwrap().inputs[0].shape, [1, 1, 1]);
    let error = deep(4).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    assert!(error.message.contains("deeper than the 3 dimensions of 'x'"), "{error}");
    // What is gone past in the first look is refused in the second.
    for broken in ["[[1], [2}]", "[[1], [2", "[[1], x]", "[[1], [2] [3]]", "[[1], {\"a\": ]}"] {
        let body = format!("{{\"instances\": {broken}}}");
        assert_eq!(read(body.as_bytes(), ONE, 99).unwrap_err().code, ErrorCode::InvalidArgument, "{broken}");
    }
    let body = br#"{"instances": [[1], [2]]}"#;
    let late = super::read(body, ONE, 99, Instant::now()).unwrap_err();
    assert_eq!(late.code, ErrorCode::DeadlineExceeded);
}

#[test]
fn answers_nest_as_their_shapes() {
    let one = [floats("y", &[2, 2], &[1.0, 2.5, 3.0, 4.0])];
    assert_eq!(written(&one, Form::Rows(2)), json!({"predictions": [[1.0, 2.5], [3.0, 4.0]]}));
    assert_eq!(written(&one, Form::Columns), json!({"outputs": [[1.0, 2.5], [3.0, 4.0]]}));
    let flat = [floats("y", &[2], &[1.0, 2.5])];
    assert_eq!(written(&flat, Form::Rows(2)), json!({"predictions": [1.0, 2.5]}));
    let deep = [floats("y", &[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]), texts("t", &[1], &[b"\xff"])];
    assert_eq!(
        written(&deep, Form::Rows(1)),
        json!({"predictions": [{"y": [[1.0, 2.0], [3.0, 4.0]], "t": {"b64": "/w=="}}]})
    );
    let scalar = [floats("y", &[], &[2.0])];
    assert_eq!(written(&scalar, Form::Columns), json!({"outputs": 2.0}));
    let error = write(&scalar, Form::Rows(3)).unwrap_err();
    assert!(error.message.contains("ask with 'inputs'"), "{error}");
    let nan = write(&[floats("y", &[1], &[f32::NAN])], Form::Columns).unwrap_err();
    assert_eq!(nan.code, ErrorCode::InvalidArgument);
    assert_eq!(written(&[floats("y", &[2, 0], &[])], Form::Columns), json!({"outputs": [[], []]}));
}

proptest! {
    #[test]
    fn no_body_is_too_odd(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&body, ONE, 1000);
        let _ = read(&body, TWO, 1000);
    }

    #[test]
    fn nearly_right_bodies_are_read_or_refused(body in r#"\{"(instances|inputs)":[\[\]{}"atx:,0-9. ]{0,60}\}"#) {
        for inputs in [ONE, TWO] {
            if let Ok(request) = read(body.as_bytes(), inputs, 1000) {
                prop_assert_eq!(request.inputs.len(), inputs.len());
            }
        }
    }

    #[test]
    fn numbers_come_back_in_their_places(rows in 1_usize..5, width in 1_usize..5, seed in any::<u32>()) {
        let values: Vec<f32> = (0..rows * width).map(|at| (seed.wrapping_mul(at as u32 + 1) >> 8) as f32).collect();
        let tensor = floats("x", &[rows, width], &values);
        let body = written(std::slice::from_ref(&tensor), Form::Rows(rows));
        let request = parsed(&json!({"instances": body["predictions"]}), ONE).unwrap();
        prop_assert_eq!(&request.inputs, &[tensor]);
        let body = written(&request.inputs, Form::Columns);
        prop_assert_eq!(parsed(&json!({"inputs": body["outputs"]}), ONE).unwrap().inputs, request.inputs);
    }
}
