//! The protocol's messages and service, as `build.rs` makes them from `proto/`.
//!
//! Owns nothing: what is written by hand is beside it.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated from proto/, where each is described"
)]

tonic::include_proto!("inference");

/// The descriptors of all of it, encoded, for reflection.
pub(super) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/inference.bin"));
