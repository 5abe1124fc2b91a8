//! Nuke: a WebAssembly-plugin inference host.
//!
//! # Layout, in a request's order
//! - [`cli`] and [`config`]: what the operator asks for
//! - [`http`]: the front door, and the only place where an error becomes a status
//! - [`auth`]: who asks, whether they may, and how much
//! - [`grpc`]: the same door on gRPC
//! - [`pipeline`]: the one function that a request goes through, stage by stage
//! - [`plugin`]: sandboxed WebAssembly around the model; the only place that names wasmtime
//! - [`scheduler`]: a bounded queue and the workers that pull from it
//! - [`model`]: ONNX Runtime and tensors; the only place that names ort
//! - [`isolation`]: a worker's model in a process of its own
//! - [`repository`]: folders of bundles, and the index of what is being served
//! - [`traffic`]: which version of a model answers which request
//! - [`nodes`]: what several hosts agree on, by way of Redis
//! - [`cache`]: answers remembered
//! - [`store`]: the one way to the Redis that nodes share
//! - [`telemetry`]: metrics and logs
//! - [`install`]: `nuke runtime install`, which gets the ONNX Runtime library
//! - [`tls`]: certificates and keys, and their change while the server runs
//! - [`client`]: the commands that talk to a running host
//! - `child`: how the host starts itself as a child, and which rights that takes from itself
//! - [`error`]: the one enum of error codes
//! - [`haste`]: what is made at a lower priority than requests are answered
//! - `memory`: when the allocator is asked to give memory back
//! - [`paths`]: where this machine keeps what can be made again
//! - `timestamp`: how points in time are written
//! - `fuzzing`: where fuzzers reach what reads bytes of strangers
//! - [`secret`]: text that nothing shows by accident

pub mod auth;
pub mod cache;
mod child;
pub mod cli;
pub mod client;
pub mod config;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod grpc;
pub mod haste;
pub mod http;
pub mod install;
pub mod isolation;
mod memory;
pub mod model;
pub mod nodes;
pub mod paths;
pub mod pipeline;
pub mod plugin;
pub mod repository;
pub mod scheduler;
pub mod secret;
pub mod store;
pub mod telemetry;
mod timestamp;
pub mod tls;
pub mod traffic;
mod whole_file;
