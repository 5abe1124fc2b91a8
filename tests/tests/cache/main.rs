//! Answers that are remembered, at the real binary: who gets which answer, by which route, until when, and what is
//! told of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod answers;
#[expect(dead_code, reason = "the client of gRPC that the tests of gRPC have; not all of it is needed here")]
#[path = "../grpc/call.rs"]
mod call;
mod callers;
mod crowd;
mod directives;
mod faults;
mod grpc;
mod keys;
mod nodes;
mod swaps;

use std::fs;
use std::path::Path;

use nuke_tests::{Answer, Client, Host, Repository, Server, ServerBuilder, tiny_request};
use serde_json::Value;

const TINY: &str = "/v2/models/tiny/infer";

fn builder(repository: &Repository) -> ServerBuilder {
    Server::builder()
        .repository(repository)
        .set("repository.quiet", "100ms")
        .set("repository.rescan", "500ms")
}

/// `tiny` with a cache of these settings.
fn tiny_with(cache: &str) -> Repository {
    Repository::new().model("tiny", "1", "tiny").model_yaml(&format!("cache: {cache}\n"))
}

fn host(repository: Repository) -> Host {
    Host::start(repository, builder)
}

/// Posts JSON with `cache-control`, unless that is empty.
#[track_caller]
fn ask(client: &Client, path: &str, body: &Value, control: &str) -> Answer {
    let asking = client.request("POST", path).header("content-type", "application/json");
    let asking = if control.is_empty() { asking } else { asking.header("cache-control", control) };
    asking.body(body.to_string()).send()
}

/// What an answer says of the cache.
#[track_caller]
fn told(answer: &Answer) -> &str {
    answer.header("cache-status").unwrap_or_else(|| panic!("no cache-status: {}", answer.text()))
}

#[track_caller]
fn is_hit(answer: &Answer) -> bool {
    let hit = told(answer).starts_with("nuke; hit; ttl=");
    assert_eq!(hit, answer.header("age").is_some(), "{:?}", answer.headers);
    hit
}

#[track_caller]
fn is_miss(answer: &Answer) -> bool {
    told(answer) == "nuke; fwd=miss; stored"
}

/// The protocol's statistics of a model's only version.
#[track_caller]
fn statistics(server: &Server, model: &str) -> Value {
    server.get(&format!("/v2/models/{model}/stats")).expect(200).json()["model_stats"][0].clone()
}

fn count(statistics: &Value, name: &str) -> u64 {
    statistics["inference_stats"][name]["count"].as_u64().unwrap()
}

/// Runs of a model.
fn runs(server: &Server, model: &str) -> u64 {
    statistics(server, model)["execution_count"].as_u64().unwrap()
}

/// Replaces one file whole.
fn replace(path: &Path, bytes: &[u8]) {
    let next = path.with_extension("tmp");
    fs::write(&next, bytes).unwrap();
    fs::rename(next, path).unwrap();
}
