//! The cache in operators' hands, at the real binary: shown, purged, filled ahead, by the admin interface and by the
//! commands.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod commands;
mod fill;
mod interface;
mod nodes;

use std::process::Output;

use nuke_tests::{Answer, Client, Redis, Repository, Server, ServerBuilder, nuke};
use serde_json::{Value, json};

const TINY: &str = "/v2/models/tiny/infer";

/// `tiny`, whose answers are remembered.
fn tiny() -> Repository {
    Repository::new().model("tiny", "1", "tiny").model_yaml("cache: {ttl: 1h}\n")
}

fn builder(repository: &Repository) -> ServerBuilder {
    Server::builder().repository(repository).set("repository.rescan", "1s")
}

/// The same with this Redis, which is given more time than a busy machine takes.
fn sharing(repository: &Repository, redis: &Redis) -> ServerBuilder {
    builder(repository).set("cache.redis.url", &redis.url()).set("cache.redis.timeout", "2s")
}

/// A host with the folder that it serves, which must outlive it.
struct Host {
    server: Server,
    _repository: Repository,
}

impl std::ops::Deref for Host {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

fn host(repository: Repository) -> Host {
    Host { server: builder(&repository).start(), _repository: repository }
}

fn request(seed: u64) -> Value {
    let values: Vec<f64> = (0..16).map(|index| (seed * 16 + index) as f64 / 1000.0).collect();
    json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": values}]})
}

/// Posts JSON; takes nothing but a remembered answer.
#[track_caller]
fn remembered(client: &Client, path: &str, body: &Value) -> Answer {
    let asking = client.request("POST", path).header("content-type", "application/json");
    asking.header("cache-control", "only-if-cached").body(body.to_string()).send()
}

/// Runs a command against a host.
fn run(server: &Server, arguments: &[&str]) -> Output {
    nuke().args(arguments).args(["--url", &server.url()]).output().unwrap()
}

fn shown(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What a command printed, if it did as it was told.
#[track_caller]
fn done(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", shown(output));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}
