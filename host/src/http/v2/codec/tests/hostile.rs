//! Bodies that are wrong on purpose: each is refused in words that name the place, at a cost in
//! proportion to its length.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::{Limits, parse};
use super::{one_input, read, read_with, refusal};
use crate::error::ErrorCode;

#[test]
fn syntax_errors_name_field_line_and_column() {
    let cases = [
        ("", "request body: expected an object, got the end of the JSON text at line 1 column 1"),
        ("[]", "request body: expected an object, got an array at line 1 column 1"),
        ("{", "request body: expected a string, got the end of the JSON text at line 1 column 2"),
        ("{}", "request body: 'inputs' is missing"),
        ("{\"inputs\":[]}x", "request body: expected the end of the JSON text, got 'x' at line 1 column 14"),
        ("{\"inputs\":[],}", "request body: expected a string, got '}' at line 1 column 14"),
        ("{\n \"inputs\": [}", "inputs[0]: expected an object, got '}' at line 2 column 13"),
        (
            "{\"inputs\":[{\"name\":5}]}",
            "inputs[0].name: expected a string, got a number at line 1 column 20",
        ),
        ("{\"inputs\":[{\"name\":\"\"}]}", "inputs[0].name: a name is empty at line 1 column 20"),
        ("{\"inputs\":{}}", "inputs: expected an array, got an object at line 1 column 11"),
        ("{\"id\":7,\"inputs\":[]}", "id: expected a string, got a number at line 1 column 7"),
        (
            "{\"inputs\":[],\"inputs\":[]}",
            "inputs: the key is given twice, the second time at line 1 column 23",
        ),
        ("{\"x\":tru}", "x: expected true or false, got a boolean at line 1 column 6"),
        ("{\"x\":01}", "request body: expected ',' or '}', got a number at line 1 column 7"),
        ("{\"x\":[1}", "x: expected ',' or ']', got '}' at line 1 column 8"),
        ("{\"x\":\"a\nb\"}", "x: a string has an unescaped control character at line 1 column 8"),
        ("{\"x\":\"ab", "x: a string is not closed that starts at line 1 column 6"),
        ("{\"ä\":\"\\", "ä: a string is not closed that starts at line 1 column 6"),
        ("\u{feff}{}", "request body: expected an object, got '\\u{feff}' at line 1 column 1"),
    ];
    for (json, wanted) in cases {
        assert_eq!(refusal(json), wanted);
    }
}

#[test]
fn wrong_fields_are_named_by_path() {
    let input = |field: &str| format!(r#"{{"inputs":[{{"name":"x",{field}}}]}}"#);
    let cases = [
        (input(r#""datatype":"FP31""#), "inputs[0].datatype: 'FP31' is no datatype: one of"),
        (
            input(r#""shape":[2,-1]"#),
            "inputs[0].shape[1]: -1 is no size of a dimension, an integer of 0 or more",
        ),
        (input(r#""shape":[1.5]"#), "inputs[0].shape[0]: 1.5 is no size of a dimension"),
        (input(r#""shape":[1e3]"#), "inputs[0].shape[0]: 1e3 is no size of a dimension"),
        (input(r#""shape":["1"]"#), "inputs[0].shape[0]: expected a number, got a string"),
        (input(r#""shape":[99999999999999999999]"#), "inputs[0].shape[0]: 99999999999999999999 is no size"),
        (input(r#""shape":5"#), "inputs[0].shape: expected an array, got a number"),
        (input(r#""shape":[1],"data":[1]"#), "inputs[0]: 'datatype' is missing"),
        (
            input(r#""parameters":{"a":[1]}"#),
            "inputs[0].parameters.a: expected a string, a number, true or false",
        ),
        (
            input(r#""parameters":{"a":null}"#),
            "inputs[0].parameters.a: expected a string, a number, true or false",
        ),
        (input(r#""parameters":{"a":1e999}"#), "inputs[0].parameters.a: 1e999 is out of range"),
        (
            input(r#""parameters":{"a":36893488147419103232}"#),
            "inputs[0].parameters.a: 36893488147419103232 is out",
        ),
        (
            input(r#""parameters":{"a":1,"a":2}"#),
            "inputs[0].parameters: parameter 'a' is given twice in the list",
        ),
        (
            r#"{"parameters":{"triton_x":1}}"#.to_owned(),
            "parameters.triton_x: parameter names that start with triton_",
        ),
        (
            r#"{"inputs":[],"parameters":{"binary_data_output":1}}"#.to_owned(),
            "parameters.binary_data_output: expected true or false, got 1",
        ),
        (
            r#"{"outputs":[{"name":"y","parameters":{"binary_data":"yes"}}]}"#.to_owned(),
            "outputs[0].parameters.binary_data: expected true or false, got the string 'yes'",
        ),
        (
            r#"{"outputs":[{"name":"y","parameters":{"classification":-3}}]}"#.to_owned(),
            "outputs[0].parameters.classification: expected an integer of 0 or more, got -3",
        ),
        (
            r#"{"outputs":[{"name":"y"},{"name":"y"}]}"#.to_owned(),
            "outputs: output 'y' is given twice in the list",
        ),
        (r#"{"outputs":[{}]}"#.to_owned(), "outputs[0]: 'name' is missing"),
    ];
    for (json, wanted) in cases {
        let message = refusal(&json);
        assert!(message.starts_with(wanted), "{message}");
    }
    let twice = r#"{"name":"x","datatype":"BOOL","shape":[0],"data":[]}"#;
    let message = refusal(&format!(r#"{{"inputs":[{twice},{twice}]}}"#));
    assert_eq!(message, "inputs: input 'x' is given twice in the list at line 1 column 11");
}

#[test]
fn shared_memory_is_not_served() {
    let json = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"BOOL","parameters":{"shared_memory_region":"r"}}]}"#;
    let error = read(json).unwrap_err();
    assert_eq!(error.code, ErrorCode::Unimplemented);
    assert!(error.message.starts_with("input 'x': shared_memory_region is not served"), "{error}");
}

#[test]
fn bombs_are_refused_before_they_cost_anything() {
    let deep = "[".repeat(1_000_000);
    assert!(refusal(&format!("{{\"x\":{deep}")).starts_with("x: nested deeper than 128 levels at line 1"));
    assert!(
        refusal(&one_input("FP32", "[1,1]", &deep)).starts_with("tensor 'x' element 0: expected a number")
    );
    assert!(refusal(&format!("{{\"inputs\":[{{\"data\":{deep}")).contains("is not closed"));
    let ones = vec!["1"; 65].join(",");
    assert!(
        refusal(&one_input("FP32", &format!("[{ones}]"), "[1]"))
            .starts_with("inputs[0].shape[64]: more than 64")
    );
    let overflow = refusal(&one_input("FP32", "[4294967296,4294967296]", "[1]"));
    assert!(overflow.contains("more elements than memory could hold"), "{overflow}");
    // A shape that promises more than the text holds reserves no more than the text could fill.
    let promised = refusal(&one_input("UINT8", "[200000000]", "[1]"));
    assert_eq!(promised, "tensor 'x': shape [200000000] takes 200000000 elements, data has 1");
    let large = read(&one_input("FP64", "[1000000000]", "[1]")).unwrap_err();
    assert_eq!(large.code, ErrorCode::PayloadTooLarge);
    let inputs = vec![r#"{"name":"x","datatype":"BOOL","shape":[0],"data":[]}"#; 1025].join(",");
    assert!(
        refusal(&format!("{{\"inputs\":[{inputs}]}}")).starts_with("inputs[1024]: more than 1024 inputs")
    );
    let parameters: Vec<String> = (0..8193).map(|index| format!("\"p{index}\":1")).collect();
    let message = refusal(&format!("{{\"parameters\":{{{}}}}}", parameters.join(",")));
    assert!(message.starts_with("parameters: more than 8192 parameters in the request"), "{message}");
    let long = "y".repeat(100_000);
    assert!(refusal(&one_input("FP32", "[1]", &format!("[{}]", "9".repeat(100_000)))).len() < 200);
    assert!(refusal(&format!("{{\"{long}\":}}")).len() < 200);
}

#[test]
fn the_limit_on_decoded_bytes_counts_all_inputs() {
    let input = |name: &str| format!(r#"{{"name":"{name}","datatype":"FP64","shape":[3],"data":[1,2,3]}}"#);
    let body = Bytes::from(format!("{{\"inputs\":[{},{}]}}", input("a"), input("b")));
    let limits = |decoded_bytes| Limits { decoded_bytes, ..Limits::default() };
    assert!(parse(&body, None, &limits(48)).is_ok());
    let error = parse(&body, None, &limits(47)).unwrap_err();
    assert_eq!(error.code, ErrorCode::PayloadTooLarge);
    assert!(
        error.message.starts_with("tensor 'b': its data takes 24 bytes or more, at most 23 are"),
        "{error}"
    );
}

#[test]
fn text_that_is_not_unicode_is_refused() {
    let message = refusal(&one_input("BYTES", "[1]", r#"["\ud800"]"#));
    assert!(
        message.starts_with("tensor 'x' element 0: the string's escapes cannot be decoded ("),
        "{message}"
    );
    assert!(message.ends_with(" at line 1 column 63"), "{message}");
    let error = read_with(b"{\"id\":\"\xff\"}", None).unwrap_err();
    assert_eq!(error.message, "request body: the JSON part is not UTF-8 at byte 7");
}

/// A body of every kind of field, with two inputs behind the JSON.
fn sample() -> (Vec<u8>, usize) {
    let json = concat!(
        r#"{"id":"\u00e4","parameters":{"a":1.5e1,"b":"t","c":true},"inputs":["#,
        r#"{"name":"f","datatype":"FP32","shape":[2,2],"data":[[1.5,-2e-3],[3,4.25]]},"#,
        r#"{"data":["x\n",""],"datatype":"BYTES","shape":[2],"name":"s"},"#,
        r#"{"name":"i","datatype":"INT16","shape":[2],"parameters":{"binary_data_size":4}},"#,
        r#"{"name":"b","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":6}}],"#,
        r#""outputs":[{"name":"y","parameters":{"binary_data":true}}],"more":[{"x":[null,false]}]}"#,
    );
    ([json.as_bytes(), b"\x01\x00\x02\x00\x02\x00\x00\x00ab"].concat(), json.len())
}

#[test]
fn a_body_cut_anywhere_is_refused() {
    let (body, length) = sample();
    assert_eq!(read_with(&body, Some(length)).unwrap().inputs.len(), 4);
    for end in 0..body.len() {
        assert!(read_with(&body[..end], Some(length)).is_err(), "cut at {end}");
        assert!(
            end == 0 || end > length || read_with(&body[..end], Some(end)).is_err(),
            "all JSON, cut at {end}"
        );
        assert!(read_with(&body[..end], None).is_err(), "no header, cut at {end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_give_an_answer_or_an_error(body: Vec<u8>, length in proptest::option::of(0_usize..300)) {
        drop(parse(&body.into(), length, &Limits::default()));
    }

    #[test]
    fn any_text_of_json_pieces_gives_an_answer_or_an_error(
        pieces in proptest::collection::vec(proptest::sample::select(vec![
            "{", "}", "[", "]", ",", ":", " ", "\n", "\"", "\\", "\\u12", "\"inputs\":", "\"data\":", "\"shape\":",
            "\"name\":\"x\"", "\"datatype\":\"FP32\"", "\"datatype\":\"BYTES\"", "\"a\"", "1", "-0.5e3", "null", "true", "é",
            "[1,2]", "{\"name\":\"x\",\"shape\":[2],\"datatype\":\"INT8\",\"data\":[",
        ]), 0..40),
    ) {
        drop(parse(&pieces.concat().into(), None, &Limits::default()));
    }

    #[test]
    fn a_spoiled_body_gives_an_answer_or_an_error(at in 0_usize..600, byte: u8, drop_byte: bool) {
        let (mut body, length) = sample();
        let at = at % body.len();
        if drop_byte { body.remove(at); } else { body[at] = byte; }
        drop(read_with(&body, Some(length)));
    }
}
