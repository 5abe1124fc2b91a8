//! What is accepted, and the words of what is refused.

use super::{Writer, input, raw, typed};
use crate::error::ErrorCode;
use crate::grpc::message::{WholeMessage, head, split};
use crate::http::v2::codec::{Limits, ParameterValue};

#[test]
fn all_fields_of_a_request_are_read() {
    let parameter = |value: Writer| value;
    let request = raw("INT32", &[2], &[1, 0, 0, 0, 2, 0, 0, 0])
        .bytes(2, "7")
        .bytes(3, "an id")
        .parameter(4, "flag", &parameter(Writer::default().varint(1, 1)))
        .parameter(4, "count", &parameter(Writer::default().varint(2, (-3_i64).cast_unsigned())))
        .parameter(4, "text", &parameter(Writer::default().bytes(3, "ü")))
        .parameter(4, "ratio", &parameter(Writer::default().fixed(4, &0.5_f64.to_le_bytes())))
        .parameter(4, "huge", &parameter(Writer::default().varint(5, u64::MAX)))
        .parameter(4, "small", &parameter(Writer::default().varint(5, 5)))
        .message(
            6,
            &Writer::default().bytes(1, "y").parameter(2, "classification", &Writer::default().varint(2, 3)),
        )
        // Fields of later versions, and a group.
        .varint(99, 5)
        .bytes(100, "later");
    let whole = request.whole();
    let found = head(&whole).unwrap();
    assert_eq!((found.model, found.version, found.id), ("m", "7", "an id"));
    let found = request.split().unwrap();
    assert!(!found.wants_final);
    let found = found.request;
    assert_eq!(found.id.as_deref(), Some("an id"));
    assert_eq!(found.inputs[0].shape, [2]);
    assert_eq!(found.inputs[0].data.as_ref(), [1, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!((found.outputs[0].name.as_str(), found.outputs[0].classification), ("y", Some(3)));
    let value =
        |name: &str| found.parameters.iter().find(|(one, _)| one == name).map(|(_, value)| value.clone());
    assert_eq!(value("flag"), Some(ParameterValue::Bool(true)));
    assert_eq!(value("count"), Some(ParameterValue::Int(-3)));
    assert_eq!(value("text"), Some(ParameterValue::String("ü".to_owned())));
    assert_eq!(value("ratio"), Some(ParameterValue::Double(0.5)));
    assert_eq!(value("huge"), Some(ParameterValue::Uint(u64::MAX)));
    assert_eq!(value("small"), Some(ParameterValue::Int(5)));
}

#[test]
fn raw_tensors_are_slices_of_the_message() {
    let message = raw("FP32", &[1, 2], &[7; 8]).whole();
    let found = split(&message, &Limits::default()).unwrap().request;
    let (whole, part) = (message.0.as_ptr_range(), found.inputs[0].data.as_ptr_range());
    assert!(whole.start <= part.start && part.end <= whole.end);
    // So is a packed list of floats.
    let message = typed("FP32", &[2], &Writer::default().bytes(6, [7; 8])).whole();
    let found = split(&message, &Limits::default()).unwrap().request;
    let (whole, part) = (message.0.as_ptr_range(), found.inputs[0].data.as_ptr_range());
    assert!(whole.start <= part.start && part.end <= whole.end);
}

#[test]
fn the_mark_of_a_last_answer_is_asked_for_by_a_parameter() {
    let asked = raw("INT8", &[1], &[1]).parameter(
        4,
        "triton_enable_empty_final_response",
        &Writer::default().varint(1, 1),
    );
    let found = asked.split().unwrap();
    assert!(found.wants_final && found.request.parameters.is_empty());
    let other = raw("INT8", &[1], &[1]).parameter(4, "triton_x", &Writer::default().varint(1, 1));
    assert_eq!(other.refusal(), "parameters.triton_x: parameter names that start with triton_ are reserved");
}

#[test]
fn elements_come_in_one_form() {
    let contents = Writer::default().packed(2, [1]);
    let both = typed("INT32", &[1], &contents).bytes(7, [0; 4]);
    assert_eq!(
        both.refusal(),
        "input 'x' has 'contents', and the request raw_input_contents, expected one of them"
    );
    let neither = Writer::default().message(5, &input("x", "INT32", &[1]));
    assert_eq!(
        neither.refusal(),
        "input 'x' has neither 'contents' nor raw_input_contents, expected one of them"
    );
    let fewer = raw("INT8", &[1], &[1]).message(5, &input("z", "INT8", &[1]));
    assert_eq!(fewer.refusal(), "raw_input_contents has 1 entries for 2 inputs, expected one for each");
    let more = raw("INT8", &[1], &[1]).bytes(7, [1]);
    assert_eq!(more.refusal(), "raw_input_contents has 2 entries for 1 inputs, expected one for each");
    // An empty tensor needs no elements, and empty contents are none.
    let empty = Writer::default().message(5, &input("x", "INT32", &[0, 3])).split().unwrap();
    assert!(empty.request.inputs[0].data.is_empty());
    assert!(typed("INT8", &[1], &Writer::default()).bytes(7, [1]).split().is_ok());
}

#[test]
fn each_datatype_has_its_list() {
    let bytes = Writer::default().bytes(8, b"a\0").bytes(8, b"");
    let found = typed("BYTES", &[2], &bytes).split().unwrap().request;
    assert_eq!(found.inputs[0].data.as_ref(), b"\x02\0\0\0a\0\0\0\0\0");
    let bools = typed("BOOL", &[3], &Writer::default().packed(1, [0, 1, 7])).split().unwrap().request;
    assert_eq!(bools.inputs[0].data.as_ref(), [0, 1, 1]);
    let wrong = typed("INT64", &[1], &Writer::default().packed(2, [1]));
    assert_eq!(wrong.refusal(), "tensor 'x': INT64 goes into int64_contents, got int_contents");
    for datatype in ["FP16", "BF16"] {
        let half = typed(datatype, &[1], &Writer::default().packed(2, [1]));
        assert_eq!(
            half.refusal(),
            format!("tensor 'x': {datatype} has no typed form, send it in raw_input_contents")
        );
    }
    let narrow = typed("INT8", &[2], &Writer::default().packed(2, [1, 300]));
    assert_eq!(narrow.refusal(), "tensor 'x' element 1: 300 is out of range for INT8");
    let negative = (-1_i32).cast_unsigned();
    let negative = typed("UINT16", &[1], &Writer::default().packed(4, [u64::from(negative)]));
    assert_eq!(negative.refusal(), "tensor 'x' element 0: 4294967295 is out of range for UINT16");
    let odd = typed("FP64", &[1], &Writer::default().bytes(7, [0; 9]));
    assert_eq!(odd.refusal(), "tensor 'x': 9 bytes are no list of FP64");
}

#[test]
fn lists_may_come_in_pieces() {
    let pieces = Writer::default().varint(2, 1).packed(2, [2, 3]).varint(2, 4);
    let parts =
        input("x", "INT16", &[2, 3]).message(5, &pieces).message(5, &Writer::default().packed(2, [5, 6]));
    let found = Writer::default().message(5, &parts).split().unwrap().request;
    assert_eq!(found.inputs[0].data.as_ref(), [1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]);
    let floats = Writer::default().fixed(6, &1_f32.to_le_bytes()).bytes(6, 2_f32.to_le_bytes());
    let found = typed("FP32", &[2], &floats).split().unwrap().request;
    assert_eq!(found.inputs[0].data.as_ref(), [1_f32, 2.0].map(f32::to_le_bytes).concat());
}

#[test]
fn what_is_wrong_is_named() {
    let two = raw("INT8", &[1], &[1]).message(5, &input("x", "INT8", &[1])).bytes(7, [1]);
    assert_eq!(two.refusal(), "inputs: input 'x' is given twice in the list");
    let nameless = Writer::default().message(5, &input("", "INT8", &[1]));
    assert_eq!(nameless.refusal(), "inputs[0].name: a name is empty");
    let unknown = Writer::default().message(5, &input("x", "FLOAT", &[1]));
    assert!(unknown.refusal().starts_with("inputs[0].datatype: 'FLOAT' is no datatype"));
    let negative = raw("INT8", &[-1], &[1]);
    assert_eq!(negative.refusal(), "inputs[0].shape: -1 is no size of a dimension, an integer of 0 or more");
    let latin = Writer::default().bytes(3, b"\xff");
    assert_eq!(latin.refusal(), "id: it is not UTF-8 at byte 0");
    let mistyped = Writer::default().varint(5, 1);
    assert_eq!(mistyped.refusal(), "inputs[0]: the field has another type than the protocol's");
    let valueless = Writer::default().parameter(4, "k", &Writer::default());
    assert_eq!(valueless.refusal(), "parameters.k: the parameter has no value");
    let nan = Writer::default().parameter(4, "k", &Writer::default().fixed(4, &f64::NAN.to_le_bytes()));
    assert_eq!(nan.refusal(), "parameters.k: NaN is no value of a parameter");
    let region =
        input("x", "INT8", &[1]).parameter(4, "shared_memory_region", &Writer::default().bytes(3, "r"));
    let error = Writer::default().message(5, &region).split().unwrap_err();
    assert_eq!(error.code, ErrorCode::Unimplemented);
}

#[test]
fn a_message_that_is_cut_says_where() {
    let message = raw("INT8", &[4], &[1, 2, 3, 4]).whole();
    let cut = WholeMessage(message.0.slice(..message.0.len() - 1));
    let error = split(&cut, &Limits::default()).unwrap_err();
    assert_eq!(error.message, "request: field 7 wants 4 bytes, but only 3 are left");
    assert!(head(&cut).is_err());
}
