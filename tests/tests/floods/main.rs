//! Clients that take all they can get: connections, time, frames, memory. An honest client is answered all the
//! while, and nothing of it stays behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod frames;
mod memory;
mod slow;

use nuke_tests::{Repository, Server, ServerBuilder};

fn vectors() -> Repository {
    Repository::new().model("vector", "1", "vector_fp32").model("big", "1", "big")
}

fn builder(repository: &Repository) -> ServerBuilder {
    Server::builder().repository(repository).set("log.access", "false")
}

/// Connections that the host ended for a reason.
fn ended(server: &Server, reason: &str) -> f64 {
    server.metrics().sum("nuke_http_connections_ended_total", &[("reason", reason)])
}
