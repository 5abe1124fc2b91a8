//! What the tests of `tests/tests` share: a running host, a client, a folder of models, and plugins of
//! every kind of misbehaviour.
//!
//! Owns the way to a host that is the real binary in a process of its own: nothing here calls the host's
//! code. Whatever a test needs and cannot find is a panic that names the remedy; skipped is only what needs a client
//! program that this machine cannot run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod checks;
mod client;
pub mod components;
mod host;
mod log;
pub mod marks;
mod metrics;
mod paths;
mod raw;
mod redis;
mod repository;
mod server;

pub use checks::{
    open_socket, read_until_closed, refused, settles, slow_request, status_of, tiny_request, worker_is_busy,
};
pub use client::{Answer, Client, Request};
pub use host::Host;
pub use metrics::Metrics;
pub use paths::{binary, guest, nuke, photo, plugins, program, python, redis_server, root};
pub use raw::RawConnection;
pub use redis::{Cluster, Redis, SentinelPair};
pub use repository::Repository;
pub use rustix::process::Signal;
pub use server::{Exited, Server, ServerBuilder, eventually};
