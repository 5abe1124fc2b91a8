//! The body of an Open Inference Protocol v2 inference request and of its answer, on HTTP.
//!
//! Owns the JSON form, the binary tensor extension and their mixture: [`parse`] for requests,
//! [`encode`] for answers. It knows no model, no connection and no status code.
//!
//! Invariants: binary tensors are never copied; a body of any content gives an answer or an error,
//! never a panic; what is decoded from JSON takes at most four times the text's length, and is
//! bounded by [`Limits`]; time grows with the body's length, not with what its shapes promise.

mod elements;
mod encode;
mod envelope;
mod fault;
mod number;
mod parse;
mod reader;
mod request;
mod runs;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use elements::too_large;
pub use encode::{Encoded, InferResponse, ResponseOutput, encode};
pub(crate) use fault::shorten;
pub use parse::{HEADER_LENGTH, header_length, parse, raw_request};
pub use request::{Body, InferRequest, Limits, ParameterValue, Parameters, RequestedOutput};
pub(crate) use request::{parameter, parameter_count};
