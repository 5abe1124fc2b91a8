//! The cache in operators' hands, at the real binary: shown, purged, filled ahead, by the admin interface and by the
//! commands.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod commands;
mod fill;
mod interface;
mod nodes;

use std::process::Output;

use nuke_tests::{
    Answer, Client, Host, Redis, Repository, Server, ServerBuilder, eventually, nuke, tiny_request,
};
use serde_json::Value;

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

/// Waits until the host can ask its Redis: it starts without.
fn connected(server: &Server) {
    eventually("Redis is connected", || server.metrics().sum("nuke_redis_up", &[]) == 1.0);
}

fn host(repository: Repository) -> Host {
    Host::start(repository, builder)
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
