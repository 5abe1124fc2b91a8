//! Several real hosts and a real Redis: who is there, traffic that all of them share, and what they do when Redis
//! is stopped, killed, emptied or scribbled on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod faults;
mod list;
mod moving;
mod policies;

use std::time::{Duration, Instant};

use nuke_tests::{Answer, Redis, Repository, Server, ServerBuilder, eventually};
use serde_json::{Value, json};

/// Versions 1 and 2 of `tiny`, both loaded, with this traffic.
fn two_tinies(traffic: &str) -> Repository {
    Repository::new()
        .model("tiny", "1", "tiny")
        .model("tiny", "2", "tiny")
        .model_yaml(&format!("versions: {{latest: 2}}\nqueue: {{timeout: 60s}}\n{traffic}"))
}

/// What commands of Redis may take: longer than a busy machine keeps it from answering.
const PATIENT: &str = "5s";
/// Where it is stopped each command waits for as long as that.
const HASTY: &str = "500ms";

/// A host that has a Redis in common with others, and a folder of its own.
fn node(repository: &Repository, redis: &Redis, name: &str) -> ServerBuilder {
    node_with(repository, redis, name, PATIENT)
}

fn node_with(repository: &Repository, redis: &Redis, name: &str, timeout: &str) -> ServerBuilder {
    // Who has been silent for four heart-beats is missed.
    Server::builder()
        .repository(repository)
        .set("repository.rescan", "1s")
        .set("cache.redis.url", &redis.url())
        .set("cache.redis.timeout", timeout)
        .set("node.name", name)
        .set("node.heartbeat", "1s")
}

/// Two hosts, `a` and `b`, with the same models in folders of their own.
struct Pair {
    a: Server,
    b: Server,
    redis: Redis,
    repositories: [Repository; 2],
}

impl Pair {
    #[track_caller]
    fn start(traffic: &str) -> Self {
        Self::of(traffic, PATIENT)
    }

    #[track_caller]
    fn of(traffic: &str, timeout: &str) -> Self {
        let redis = Redis::start();
        let repositories = [two_tinies(traffic), two_tinies(traffic)];
        let a = node_with(&repositories[0], &redis, "a", timeout).start();
        let b = node_with(&repositories[1], &redis, "b", timeout).start();
        Self { a, b, redis, repositories }
    }
}

#[track_caller]
fn put_traffic(server: &Server, body: &str) -> Answer {
    let client = server.client();
    let request = client.request("PUT", "/admin/models/tiny/traffic");
    request.header("content-type", "application/yaml").body(body).send()
}

/// What the admin interface says of a model's traffic.
#[track_caller]
fn traffic(server: &Server, model: &str) -> Value {
    server.get(&format!("/admin/models/{model}/traffic")).expect(200).json()
}

/// Whether a host could not wait for Redis at its start: it does so for a second.
fn began_without_redis(server: &Server) -> bool {
    server.logs().iter().any(|line| line.contains("traffic begins with its last known state"))
}

/// The version that answers a request.
#[track_caller]
fn version(server: &Server) -> String {
    let values: Vec<f64> = (0..16).map(f64::from).collect();
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": values}]});
    let answer = server.post_json("/v2/models/tiny/infer", &body).expect(200);
    answer.json()["model_version"].as_str().expect("a version").to_owned()
}

/// Whether that version answers, many times in a row.
fn serves(server: &Server, expected: &str) -> bool {
    (0..5).all(|_| version(server) == expected)
}

/// Waits until a host has followed, and says how long that took.
#[track_caller]
fn follows(what: &str, since: Instant, condition: impl FnMut() -> bool) -> Duration {
    eventually(what, condition);
    let took = since.elapsed();
    println!("{what}: {took:?}");
    took
}
