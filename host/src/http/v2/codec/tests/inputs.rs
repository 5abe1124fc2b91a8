//! Inputs in JSON and in the binary form, and the fields around them.

use bytes::Bytes;

use super::super::{Body, HEADER_LENGTH, Limits, ParameterValue, header_length, parse, raw_request};
use super::{one_input, read, read_with, refusal};
use crate::model::tensor::{BytesElements, DataType};

fn data_of(datatype: &str, shape: &str, data: &str) -> Vec<u8> {
    read(&one_input(datatype, shape, data)).unwrap().inputs[0].data.to_vec()
}

fn data_refusal(datatype: &str, shape: &str, data: &str) -> String {
    refusal(&one_input(datatype, shape, data))
}

#[test]
fn the_whole_of_a_request_is_read() {
    let request = read(
        r#" {"id":"7\u00e4","extra":{"deep":[{"a":[null,1.5e3,"]"]}]},
          "parameters":{"priority":2,"timeout":1000,"k":1.5,"s":"t","big":18446744073709551615,"b":true},
          "inputs":[{"name":"x","shape":[2],"datatype":"INT8","parameters":{"content_type":"np"},"data":[-1, 2]}],
          "outputs":[{"name":"y","parameters":{"binary_data":true,"classification":3}},{"name":"z"}]} "#,
    )
    .unwrap();
    assert_eq!(request.id.as_deref(), Some("7ä"));
    assert_eq!(request.parameters[2], ("k".to_owned(), ParameterValue::Double(1.5)));
    assert_eq!(request.parameters[4].1, ParameterValue::Uint(u64::MAX));
    assert_eq!((request.timeout_us(), request.priority()), (Ok(Some(1000)), Ok(Some(2))));
    assert_eq!(&request.inputs[0].data[..], [255, 2]);
    assert!(request.outputs[0].binary && request.wants_binary("y") && !request.wants_binary("z"));
    assert_eq!(request.outputs[0].classification, Some(3));
    assert_eq!(request.outputs[0].parameters.len(), 2);
}

#[test]
fn optional_fields_that_are_null_count_as_absent() {
    let request = read(
        r#"{"id":null,"parameters":null,"outputs":null,
            "inputs":[{"name":"x","shape":[1],"datatype":"BOOL","parameters":null,"data":[true]}]}"#,
    )
    .unwrap();
    assert_eq!((request.id, request.parameters.len(), request.outputs.len()), (None, 0, 0));
    assert!(!request.default_binary);
}

#[test]
fn data_may_come_before_what_tells_how_to_read_it() {
    let request =
        read(r#"{"inputs":[{"data":[[1,2],[3,"]"]],"shape":[2,2],"datatype":"INT16","name":"x"}]}"#);
    assert_eq!(
        request.unwrap_err().message,
        "tensor 'x' element 3: expected an integer for INT16, got a string at line 1 column 30"
    );
    let request =
        read(r#"{"inputs":[{"data":[[1,2],[3,4]],"shape":[2,2],"datatype":"INT16","name":"x"}]}"#).unwrap();
    assert_eq!(&request.inputs[0].data[..], [1, 0, 2, 0, 3, 0, 4, 0]);
    assert_eq!(
        refusal(r#"{"inputs":[{"data":[1,2},"shape":[2],"datatype":"INT16","name":"x"}]}"#),
        "tensor 'x' data: expected ',' or ']', got '}' at line 1 column 24"
    );
}

#[test]
fn flat_and_nested_data_give_the_same_bytes() {
    let flat = data_of("UINT8", "[2,1,3]", "[1,2,3,4,5,6]");
    assert_eq!(flat, [1, 2, 3, 4, 5, 6]);
    assert_eq!(data_of("UINT8", "[2,1,3]", "[ [[1,2 ,3]] , [[4,5,6]]\n]"), flat);
    assert_eq!(data_of("FP32", "[]", "1.5"), 1.5_f32.to_le_bytes());
    assert_eq!(data_of("FP32", "[]", "[1.5]"), 1.5_f32.to_le_bytes());
    for (shape, data) in [("[0]", "[]"), ("[0,3]", "[]"), ("[2,0]", "[[],[]]"), ("[2,0]", "[]")] {
        assert!(data_of("FP32", shape, data).is_empty());
    }
}

#[test]
fn nesting_must_match_the_shape() {
    let cases = [
        ("[2,2]", "[1,2,3]", "tensor 'x': shape [2, 2] takes 4 elements, data has 3"),
        ("[2,2]", "[1,2,3,4,5,6]", "tensor 'x': shape [2, 2] takes 4 elements, data has 6"),
        ("[2,2]", "[[1,2],[3]]", "tensor 'x': dimension 1 of shape [2, 2] takes 2 items, data[1] has 1"),
        ("[2,2]", "[[1,2],[3,4,5]]", "tensor 'x': dimension 1 of shape [2, 2] takes 2 items, data[1] has 3"),
        ("[2,2]", "[[1,2]]", "tensor 'x': dimension 0 of shape [2, 2] takes 2 items, data has 1"),
        ("[2,2]", "[[1,2],[3,4],[5,6]]", "tensor 'x': dimension 0 of shape [2, 2] takes 2 items, data has 3"),
        ("[4]", "[[1,2],[3,4]]", "tensor 'x' element 0: expected an integer for INT32, got an array"),
        ("[2,1,2]", "[[1,2],[3,4]]", "tensor 'x' data[0][0]: expected an array, got a number"),
        ("[2,2]", "[[1,2],3,4]", "tensor 'x' data[1]: expected an array, got a number"),
        ("[]", "[]", "tensor 'x': shape [] takes 1 elements, data has 0"),
        ("[0,3]", "[[]]", "tensor 'x': dimension 0 of shape [0, 3] takes 0 items, data has 1"),
    ];
    for (shape, data, wanted) in cases {
        let message = data_refusal("INT32", shape, data);
        assert!(message.starts_with(wanted), "{message}");
    }
}

#[test]
fn every_datatype_keeps_its_range() {
    assert_eq!(data_of("BOOL", "[4]", "[true,false,1,0]"), [1, 0, 1, 0]);
    assert_eq!(data_of("UINT64", "[1]", "[18446744073709551615]"), u64::MAX.to_le_bytes());
    assert_eq!(data_of("INT64", "[1]", "[-9223372036854775808]"), i64::MIN.to_le_bytes());
    assert_eq!(data_of("INT64", "[1]", "[9007199254740993]"), 9_007_199_254_740_993_i64.to_le_bytes());
    assert_eq!(data_of("UINT8", "[1]", "[-0]"), [0]);
    assert_eq!(data_of("FP64", "[2]", "[3, -0.0]"), [3_f64.to_le_bytes(), (-0.0_f64).to_le_bytes()].concat());
    let cases = [
        ("UINT8", "[1,2,3,300]", "tensor 'x' element 3: 300 is out of range for UINT8"),
        ("UINT8", "[0,0,0,-1]", "tensor 'x' element 3: -1 is out of range for UINT8"),
        ("INT8", "[0,-129,0,0]", "tensor 'x' element 1: -129 is out of range for INT8"),
        (
            "UINT64",
            "[0,0,0,18446744073709551616]",
            "tensor 'x' element 3: 18446744073709551616 is out of range",
        ),
        ("INT32", "[1.0,0,0,0]", "tensor 'x' element 0: 1.0 is not an integer, INT32 has no fractions"),
        ("INT32", "[true,0,0,0]", "tensor 'x' element 0: expected an integer for INT32, got a boolean"),
        ("BOOL", "[2,0,0,0]", "tensor 'x' element 0: 2 is not a BOOL: true, false, 1 or 0"),
        (
            "BOOL",
            "[\"a\",0,0,0]",
            "tensor 'x' element 0: expected true, false, 1 or 0 for BOOL, got a string",
        ),
        ("FP32", "[0,1e39,0,0]", "tensor 'x' element 1: 1e39 is out of range for FP32"),
        ("FP64", "[0,-1e999,0,0]", "tensor 'x' element 1: -1e999 is out of range for FP64"),
        (
            "FP32",
            "[0,NaN,0,0]",
            "tensor 'x' element 1: expected a number for FP32 (NaN and infinity have no JSON",
        ),
        (
            "FP32",
            "[0,null,0,0]",
            "tensor 'x' element 1: expected a number for FP32 (NaN and infinity have no JSON",
        ),
        (
            "FP64",
            "[-Infinity,0,0,0]",
            "tensor 'x' element 0: expected a number for FP64 (NaN and infinity have",
        ),
        ("FP16", "[0,0,0,0]", "tensor 'x': FP16 has no JSON form, send or request it in the binary form"),
        ("BF16", "[0,0,0,0]", "tensor 'x': BF16 has no JSON form"),
        ("BYTES", "[\"a\",1,\"\",\"\"]", "tensor 'x' element 1: expected a string for BYTES, got a number"),
    ];
    for (datatype, data, wanted) in cases {
        let message = data_refusal(datatype, "[4]", data);
        assert!(message.starts_with(wanted), "{message}");
    }
}

#[test]
fn bytes_elements_are_the_texts_utf8() {
    let data = data_of("BYTES", "[2,2]", r#"[["a\u0000b","é"],["","\ud83d\ude00\n"]]"#);
    let elements: Vec<_> = BytesElements::new(&data).map(Result::unwrap).collect();
    assert_eq!(elements, [b"a\0b".as_slice(), "é".as_bytes(), b"", "😀\n".as_bytes()]);
}

#[test]
fn json_and_binary_inputs_are_told_apart_one_by_one() {
    let json = r#"{"id":"1","inputs":[
        {"name":"a","datatype":"INT16","shape":[2],"parameters":{"binary_data_size":4}},
        {"name":"b","datatype":"FP32","shape":[1],"data":[2]},
        {"name":"c","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":6}},
        {"name":"d","datatype":"FP16","shape":[0],"parameters":{"binary_data_size":0}}]}"#;
    let blobs = b"\x01\x00\x02\x00\x02\x00\x00\x00ab";
    let body = Bytes::from([json.as_bytes(), blobs].concat());
    let Body::Request(request) = parse(&body, Some(json.len()), &Limits::default()).unwrap() else {
        panic!()
    };
    let data: Vec<_> = request.inputs.iter().map(|input| &input.data[..]).collect();
    assert_eq!(data, [&blobs[..4], &2_f32.to_le_bytes(), &blobs[4..], &[]]);
    // Not a copy: the slice points into the body.
    assert_eq!(request.inputs[0].data.as_ptr(), body[json.len()..].as_ptr());
}

#[test]
fn blobs_that_do_not_fit_are_refused_with_both_counts() {
    let request = |size: &str, extra: &str| {
        format!(
            r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[2],"parameters":{{"binary_data_size":{size}}}{extra}}}]}}"#
        )
    };
    let cases = [
        ("8", "", 8, None),
        ("8", "", 7, Some("input 'x': binary_data_size is 8, but only 7 bytes are left in the body")),
        (
            "8",
            "",
            9,
            Some("the body has bytes left after the JSON part and all inputs with a binary_data_size: 1"),
        ),
        ("7", "", 7, Some("tensor 'x': FP32 of shape [2] takes 8 bytes, got 7")),
        (
            "18446744073709551615",
            "",
            8,
            Some("input 'x': binary_data_size is 18446744073709551615, but only 8"),
        ),
        (
            "-1",
            "",
            8,
            Some("inputs[0].parameters.binary_data_size: expected an integer of 0 or more, got -1"),
        ),
        ("8.5", "", 8, Some("inputs[0].parameters.binary_data_size: expected an integer of 0 or more")),
        ("8", ",\"data\":[1,2]", 8, Some("input 'x' has both 'data' and binary_data_size 8, expected one")),
    ];
    for (size, extra, sent, wanted) in cases {
        let json = request(size, extra);
        let body = [json.as_bytes(), &vec![0; sent]].concat();
        let message = read_with(&body, Some(json.len())).err().map(|error| error.message.into_owned());
        assert!(
            message.as_deref().unwrap_or_default().starts_with(wanted.unwrap_or_default()),
            "{message:?}"
        );
        assert_eq!(message.is_some(), wanted.is_some(), "{message:?}");
    }
    assert_eq!(
        refusal(&request("8", "")),
        "input 'x' has binary_data_size 8, but the request has no Inference-Header-Content-Length header"
    );
    assert_eq!(
        refusal(r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[2]}]}"#),
        "input 'x' has neither 'data' nor the parameter 'binary_data_size', expected one of them"
    );
}

#[test]
fn the_header_is_a_count_within_the_body() {
    assert_eq!(header_length(b" 260 "), Ok(260));
    assert_eq!(header_length(b"0"), Ok(0));
    for value in ["-1", "+1", "", "12a", "1.5", "0x10", "99999999999999999999999", "\u{ff}"] {
        let message = header_length(value.as_bytes()).unwrap_err().message;
        assert!(
            message.starts_with(&format!("header {HEADER_LENGTH}: expected a count of bytes")),
            "{message}"
        );
    }
    let error = read_with(b"{\"inputs\":[]}", Some(14)).unwrap_err();
    assert_eq!(
        error.message,
        "header Inference-Header-Content-Length: 14 bytes of JSON are announced, but the body has only 13"
    );
}

#[test]
fn a_raw_body_is_the_one_input() {
    let body = Bytes::from_static(&[0; 24]);
    assert_eq!(parse(&body, Some(0), &Limits::default()), Ok(Body::Raw(body.clone())));
    let raw = |datatype, shape: &[i64]| raw_request(body.clone(), "x", datatype, shape);
    let request = raw(DataType::Fp32, &[1, -1, 2]).unwrap();
    assert_eq!((&request.inputs[0].shape[..], request.default_binary), ([1, 3, 2].as_slice(), true));
    assert_eq!(raw(DataType::Int64, &[3]).unwrap().inputs[0].shape, [3]);
    let text = raw(DataType::Bytes, &[-1, 1]).unwrap();
    assert_eq!(
        (&text.inputs[0].shape[..], &text.inputs[0].data[..4]),
        ([1, 1].as_slice(), [24, 0, 0, 0].as_slice())
    );
    let cases: [(DataType, &[i64], &str); 6] = [
        (DataType::Fp32, &[-1, -1], "2 dimensions of its shape [-1, -1] vary"),
        (
            DataType::Fp32,
            &[-1, 5],
            "FP32 of shape [-1, 5] takes a multiple of 20 bytes, the body is 24 bytes",
        ),
        (DataType::Fp32, &[5], "FP32 of shape [5] takes exactly 20 bytes, the body is 24 bytes"),
        (DataType::Fp32, &[-1, 0], "FP32 of shape [-1, 0] takes a multiple of 0 bytes, the body is 24 bytes"),
        (DataType::Bytes, &[2], "BYTES of shape [2] takes exactly 2 elements, the body is 1 elements"),
        (DataType::Fp32, &[i64::MAX, i64::MAX], "has more elements than memory could hold"),
    ];
    for (datatype, shape, wanted) in cases {
        let message = raw(datatype, shape).unwrap_err().message;
        assert!(message.contains(wanted) && message.contains("input 'x'"), "{message}");
    }
}
