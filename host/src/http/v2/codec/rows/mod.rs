//! The body of KServe's and TensorFlow Serving's version 1: rows under `instances`, or whole tensors under `inputs`.
//!
//! Owns that form in both directions. Unlike version 2 it names neither datatypes nor shapes: the caller says what the
//! model takes, and shapes follow from how the data nests.

mod base64;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Form, RowRequest, Takes, read};
pub use write::write;
