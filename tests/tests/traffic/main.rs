//! Traffic between versions, with the real binary: policies of model.yaml and of the admin interface, labels,
//! rollouts, bandits, mirrors, and what survives a restart.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod admin;
mod bandit;
mod commands;
mod rollout;
mod shadow;
mod split;

use std::collections::BTreeMap;

use nuke_tests::{Answer, Client, Host, Repository, Server, ServerBuilder, tiny_request};
use serde_json::Value;

/// What a version answers with is told by this header.
const VERSION: &str = "x-nuke-model-version";
const ARM: &str = "x-nuke-traffic-arm";
const INFER: &str = "/v2/models/tiny/infer";

/// Versions 1 and 2 of `tiny`, both loaded, with this traffic.
fn two_tinies(traffic: &str) -> Repository {
    Repository::new()
        .model("tiny", "1", "tiny")
        .model("tiny", "2", "tiny")
        .model_yaml(&format!("versions: {{latest: 2}}\n{traffic}"))
}

fn builder(repository: &Repository) -> ServerBuilder {
    Server::builder().repository(repository).set("repository.rescan", "1s")
}

fn serve(repository: &Repository) -> Server {
    builder(repository).start()
}

fn host(repository: Repository) -> Host {
    Host::start(repository, builder)
}

/// Asks, with headers; the body is a different one for each seed.
#[track_caller]
fn ask(client: &Client, path: &str, seed: u64, headers: &[(&str, &str)]) -> Answer {
    let mut asking = client.request("POST", path).header("content-type", "application/json");
    for (name, value) in headers {
        asking = asking.header(name, value);
    }
    asking.body(tiny_request(seed).to_string()).send()
}

/// The version that answered.
#[track_caller]
fn version(answer: Answer) -> String {
    let answer = answer.expect(200);
    let version = answer.header(VERSION).expect("every answer names its version").to_owned();
    assert_eq!(answer.json()["model_version"], version.as_str(), "body and header agree");
    version
}

/// How many of so many requests each version answered.
#[track_caller]
fn shares(server: &Server, requests: u64) -> BTreeMap<String, u64> {
    let client = server.client();
    let mut counts = BTreeMap::new();
    for seed in 0..requests {
        *counts.entry(version(ask(&client, INFER, seed, &[]))).or_default() += 1;
    }
    counts
}

#[track_caller]
fn put_traffic(server: &Server, model: &str, body: &str) -> Answer {
    let path = format!("/admin/models/{model}/traffic");
    server.client().request("PUT", &path).header("content-type", "application/yaml").body(body).send()
}

/// What the admin interface says of the model's traffic.
#[track_caller]
fn traffic(server: &Server, model: &str) -> Value {
    server.get(&format!("/admin/models/{model}/traffic")).expect(200).json()
}
