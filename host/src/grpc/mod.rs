//! The front door on gRPC: the Open Inference Protocol's service, health and reflection.
//!
//! Owns listening for nothing: it is a router that the listeners of `http` serve, beside that of REST or at an
//! address of its own. Its handlers are thin: what answers, what errors say and how requests are told is the same
//! as on HTTP, and so is the one mapping of errors ([`crate::http::reply`]). It never knows wasmtime, ONNX Runtime
//! or a folder.
//!
//! A call's way, as `router` lists it: `access` starts its clock, `call` reads its deadline and bounds its body
//! (`arriving`, which `framing` tells where messages begin),
//! `authorise` asks who it is, `operators` guards loading and unloading, then tonic decodes messages and `service` has its handler.

mod access;
mod arriving;
mod authorise;
mod call;
mod compressed;
mod describe;
mod failure;
mod framing;
mod health;
mod infer;
mod lasting;
pub mod message;
mod operators;
pub mod protocol;
mod router;
mod service;
mod stream;
mod watches;

pub use operators::Place;
pub use router::grpc_router;
