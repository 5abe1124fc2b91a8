//! gRPC as its clients see it: real clients, the same words as on HTTP, hostile callers, and the drain.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod call;
mod callers;
mod clients;
mod drain;
mod hostile;
mod labels;
mod memory;
mod places;
mod waiting;
