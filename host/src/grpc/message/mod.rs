//! The messages of inference on gRPC.
//!
//! Owns how a `ModelInferRequest` is split and how its answer is made. A request is not decoded into one struct for
//! each of its parts, as generated code would: two bytes on the wire can stand for hundreds in memory, and only
//! counting while reading keeps that bounded. It knows no model, no connection and no status.
//!
//! Invariants: raw tensors are slices of the message, never copies; a message of any content gives a request or an
//! error, never a panic; what is decoded from typed contents is bounded by [`Limits`]; time grows with the
//! message's length, not with what its shapes and lengths promise.
//!
//! [`Limits`]: crate::http::v2::codec::Limits

mod answer;
mod contents;
mod parameters;
mod request;
#[cfg(test)]
mod tests;
mod whole;
mod wire;

pub(super) use answer::{answer, final_answer};
pub use request::{Head, Split, head, split};
pub use whole::WholeMessage;
