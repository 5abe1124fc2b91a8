//! Messages that mean harm: lengths and counts that promise too much, and bytes of any kind.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Writer, input, raw, typed};
use crate::error::ErrorCode;
use crate::grpc::message::{WholeMessage, head, split};
use crate::http::v2::codec::Limits;

/// Bytes that a test's message may expand to.
const LIMITS: Limits = Limits { inputs: 4, outputs: 4, parameters: 8, decoded_bytes: 1000 };

#[test]
fn lengths_that_promise_more_than_there_is_cost_nothing() {
    for length in [[0xff, 0xff, 0xff, 0xff, 0x0f].as_slice(), &[0xff; 9], &[0x80, 0x80, 0x80, 0x80, 0x10]] {
        // Field 7, and a length of gigabytes.
        let mut message = vec![0x3a];
        message.extend_from_slice(length);
        let error = split(&WholeMessage(message.into()), &LIMITS).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument);
    }
    let huge = typed("FP32", &[i64::MAX], &Writer::default().bytes(6, [0; 4]));
    assert_eq!(huge.split().unwrap_err().code, ErrorCode::PayloadTooLarge);
    let large = typed("INT64", &[1 << 40], &Writer::default().packed(3, [1]));
    assert_eq!(large.split().unwrap_err().code, ErrorCode::PayloadTooLarge);
    let overflow = raw("INT8", &[i64::MAX, i64::MAX], &[1]);
    assert!(overflow.refusal().contains("more elements than memory could hold"));
}

#[test]
fn truncated_bytes_are_named() {
    let cut = raw("BYTES", &[2], &[1, 0, 0, 0, b'a', 9, 0, 0, 0, b'b']);
    assert_eq!(cut.refusal(), "tensor 'x': BYTES element 1 wants 13 bytes, but only 5 are left");
    let endless = raw("BYTES", &[1], &[0xff; 4]);
    assert_eq!(endless.refusal(), "tensor 'x': BYTES element 0 wants 4294967299 bytes, but only 4 are left");
}

#[test]
fn many_small_parts_are_counted_before_they_are_kept() {
    let split = |message: &Writer| split(&message.whole(), &LIMITS).unwrap_err().message.into_owned();
    let repeated = |field: &Writer| Writer(field.0.repeat(1000));
    let inputs = Writer(
        (0..5).flat_map(|at| Writer::default().message(5, &input(&at.to_string(), "INT8", &[0])).0).collect(),
    );
    assert_eq!(split(&inputs), "request: more than 4 inputs");
    assert_eq!(split(&repeated(&Writer::default().bytes(7, []))), "request: more than 4 raw_input_contents");
    let outputs = Writer::default().message(6, &Writer::default().bytes(1, "y"));
    assert_eq!(split(&repeated(&outputs)), "request: more than 4 outputs");
    let parameters = Writer::default().parameter(4, "k", &Writer::default().varint(1, 1));
    assert_eq!(split(&repeated(&parameters)), "parameters: more than 8 parameters in the request");
    let shape = Writer::default().message(5, &input("x", "INT8", &[1; 65]));
    assert_eq!(split(&shape), "request: more than 64 dimensions in inputs[0].shape");
    // One byte each on the wire, eight in memory.
    let expanding = typed("INT64", &[500], &Writer::default().packed(3, vec![0; 500]));
    assert!(split(&expanding).contains("takes 4000 bytes or more, at most 1000"), "{}", split(&expanding));
    let elements = Writer(Writer::default().bytes(8, []).0.repeat(300));
    assert!(split(&typed("BYTES", &[300], &elements)).contains("at most 1000"));
    // What is too much is counted, and not kept.
    let more = typed("INT8", &[2], &Writer::default().packed(2, vec![1; 100_000]));
    assert_eq!(split(&more), "tensor 'x': shape [2] takes 2 elements, data has 100000");
}

#[test]
fn groups_without_end_do_not_recurse_without_end() {
    // Field 20 begins a group, again and again.
    let nested = WholeMessage([0xa3, 0x01].repeat(100_000).into());
    assert!(split(&nested, &LIMITS).is_err());
    let skipped = WholeMessage(Bytes::from_static(&[0xa3, 0x01, 0x08, 0x05, 0xa4, 0x01]));
    assert!(split(&skipped, &LIMITS).unwrap().request.inputs.is_empty());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let message = WholeMessage(bytes.into());
        let _ = (head(&message).is_ok(), split(&message, &LIMITS).is_ok());
    }

    #[test]
    fn no_change_of_a_good_message_makes_it_panic_or_grow(
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        end in any::<proptest::sample::Index>(),
        which in 0..3_usize,
    ) {
        let good = [
            raw("BYTES", &[2], &[1, 0, 0, 0, b'a', 0, 0, 0, 0]).bytes(3, "id"),
            typed("INT16", &[3], &Writer::default().packed(2, [1, 2, 3])),
            typed("FP64", &[1], &Writer::default().fixed(7, &[0; 8])),
        ];
        let mut bytes = good[which].0.clone();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        bytes.truncate(end.index(bytes.len()) + 1);
        if let Ok(found) = split(&WholeMessage(bytes.into()), &LIMITS) {
            let kept: usize = found.request.inputs.iter().map(|input| input.data.len()).sum();
            prop_assert!(kept <= LIMITS.decoded_bytes);
        }
    }
}
