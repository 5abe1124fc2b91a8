//! The codec as its callers see it: what is accepted, what is refused and in which words, and that
//! what is written reads back.

mod answers;
mod hostile;
mod inputs;
mod round_trip;

use bytes::Bytes;

use super::{Body, InferRequest, Limits, parse};
use crate::error::{Error, ErrorCode};

/// Reads a body that is JSON alone.
fn read(json: &str) -> Result<InferRequest, Error> {
    read_with(json.as_bytes(), None)
}

fn read_with(body: &[u8], length: Option<usize>) -> Result<InferRequest, Error> {
    match parse(&Bytes::copy_from_slice(body), length, &Limits::default())? {
        Body::Request(request) => Ok(request),
        Body::Raw(_) => panic!("a raw body"),
    }
}

/// The message of a refusal, which must be the client's fault.
fn refusal(json: &str) -> String {
    let error = read(json).expect_err(json);
    assert_eq!(error.code, ErrorCode::InvalidArgument, "{error}");
    error.message.into_owned()
}

/// A request with one input `x`.
fn one_input(datatype: &str, shape: &str, data: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape},"data":{data}}}]}}"#)
}
