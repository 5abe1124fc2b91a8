//! Models that are loaded on demand, under a memory budget: what requests get, what stays in memory, and what is
//! told of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod budget;
mod changes;
mod crowd;
mod large;

use std::fs;
use std::path::Path;

use nuke_tests::marks::{self, tiny};
use nuke_tests::{Answer, Repository, Server, ServerBuilder, eventually};

/// A lazy model, at which a machine that stands still for a moment lets nobody down.
const LAZY: &str = "load: lazy\nqueue: {timeout: 60s}\n";

/// `tiny`, which says `factor`, as a lazy model.
fn lazy(repository: Repository, name: &str, factor: f32) -> Repository {
    repository.empty_version(name, "1").file("model.onnx", tiny(factor)).model_yaml(LAZY)
}

fn builder(repository: &Repository) -> ServerBuilder {
    Server::builder()
        .repository(repository)
        .set("repository.quiet", "100ms")
        .set("repository.rescan", "500ms")
}

fn ask(server: &Server, model: &str) -> Answer {
    server.post(&format!("/v2/models/{model}/infer"), "application/json", marks::infer_body())
}

/// The factor that a model answers with.
#[track_caller]
fn factor(answer: &Answer) -> f64 {
    assert_eq!(answer.status, 200, "{}", answer.text());
    marks::factor(answer).unwrap()
}

/// The host's own word for how a model's first version stands; `gone` if it is not in the index.
fn status(server: &Server, model: &str) -> String {
    let index = server.post("/v2/repository/index", "", "").expect(200).json();
    let entry = index.as_array().unwrap().iter().find(|entry| entry["name"] == model);
    entry.map_or("gone", |entry| entry["status"].as_str().unwrap()).to_owned()
}

fn loads(server: &Server, model: &str, outcome: &str) -> f64 {
    server.metrics().sum("nuke_model_wakes_total", &[("model", model), ("outcome", outcome)])
}

/// Replaces one file whole.
fn replace(path: &Path, bytes: &[u8]) {
    let next = path.with_extension("tmp");
    fs::write(&next, bytes).unwrap();
    fs::rename(next, path).unwrap();
}

#[test]
fn a_lazy_model_is_ready_before_it_is_loaded_and_its_first_request_says_that_it_waited() {
    let repository = lazy(Repository::new(), "cold", 3.0);
    let server = builder(&repository).start();
    assert_eq!(status(&server, "cold"), "standby");
    assert_eq!(server.state("cold", "1"), ("READY".to_owned(), String::new()));
    server.get("/v2/models/cold/ready").expect(200);
    assert_eq!((status(&server, "cold").as_str(), loads(&server, "cold", "ok")), ("standby", 0.0));
    let metrics = server.metrics();
    assert_eq!(metrics.find("nuke_model_state", &[("model", "cold"), ("state", "standby")]), Some(1.0));
    assert_eq!(metrics.find("nuke_workers", &[("model", "cold")]), None, "nothing of it is there");

    let first = ask(&server, "cold");
    assert_eq!(factor(&first), 3.0);
    let waited: u64 = first.header("x-nuke-load-wait-ms").expect("it waited").parse().unwrap();
    assert_eq!(status(&server, "cold"), "ready");
    let second = ask(&server, "cold");
    assert_eq!((factor(&second), second.header("x-nuke-load-wait-ms")), (3.0, None));

    let metrics = server.metrics();
    let stage = [("model", "cold"), ("stage", "load")];
    assert_eq!(metrics.find("nuke_request_duration_seconds_count", &stage), Some(1.0));
    let seconds = metrics.sum("nuke_request_duration_seconds_sum", &stage);
    assert_eq!((seconds * 1e3) as u64, waited);
    assert_eq!(metrics.sum("nuke_requests_total", &[("model", "cold"), ("outcome", "ok")]), 2.0);
    let stages = || -> Vec<bool> {
        let lines = server.log_lines("access").into_iter().filter(|line| line["model"] == "cold");
        lines.map(|line| line["load_us"].is_u64()).collect()
    };
    eventually("both lines are written", || stages().len() >= 2);
    assert_eq!(stages(), [true, false]);
    let admin = server.get("/admin/models/cold").expect(200).json();
    let entry = &admin["versions"][0];
    assert_eq!((entry["load"].as_str(), entry["in_use"].as_u64()), (Some("lazy"), Some(0)), "{entry}");
    assert!(entry["memory_bytes"].as_u64().unwrap() > 0, "{entry}");
}

#[test]
fn what_is_asked_about_is_loaded_and_nonsense_loads_nothing() {
    let repository = lazy(lazy(Repository::new(), "cold", 1.0), "other", 2.0);
    let server = builder(&repository).start();
    for body in ["[]", "{", r#"{"inputs": 5}"#, r#"{"inputs": [{}]}"#] {
        server.post("/v2/models/cold/infer", "application/json", body).expect(400);
    }
    server.get("/v2/models/cold/versions/7").expect(404);
    assert_eq!(status(&server, "cold"), "standby");
    let metadata = server.get("/v2/models/cold").expect(200).json();
    assert_eq!((metadata["inputs"][0]["name"].as_str(), &metadata["versions"][0]), (Some("x"), &"1".into()));
    assert_eq!((status(&server, "cold").as_str(), status(&server, "other").as_str()), ("ready", "standby"));
}

#[test]
fn commands_load_and_unload_what_is_lazy() {
    let repository = lazy(Repository::new(), "cold", 5.0);
    let server = builder(&repository).start();
    server.post("/v2/repository/models/cold/load", "", "").expect(200);
    assert_eq!(status(&server, "cold"), "ready");
    server.post("/v2/repository/models/cold/unload", "", "").expect(200);
    let refused = ask(&server, "cold").expect(503).error();
    assert!(refused.contains("unloaded"), "{refused}");
    server.post("/v2/repository/models/cold/load", "", "").expect(200);
    assert_eq!(factor(&ask(&server, "cold")), 5.0);
}

#[test]
fn the_repository_says_what_models_leave_open_and_both_are_hot() {
    let repository = Repository::new()
        .empty_version("follows", "1")
        .file("model.onnx", tiny(1.0))
        .empty_version("own", "1")
        .file("model.onnx", tiny(2.0))
        .model_yaml("load: eager\n");
    let server = builder(&repository).set("repository.load", "lazy").start();
    assert_eq!((status(&server, "follows").as_str(), status(&server, "own").as_str()), ("standby", "ready"));
    replace(&repository.models().join("own/model.yaml"), b"load: lazy\nidle: 300ms\n");
    eventually("it is unloaded when it lies idle", || status(&server, "own") == "standby");
    assert_eq!(server.metrics().sum("nuke_model_rests_total", &[("model", "own"), ("reason", "idle")]), 1.0);
    assert_eq!(factor(&ask(&server, "own")), 2.0);
    replace(&repository.models().join("own/model.yaml"), b"load: eager\n");
    let eager = |server: &Server| {
        let admin = server.get("/admin/models/own").expect(200).json();
        admin["versions"][0]["load"] == "eager"
    };
    eventually("it is in memory for good", || eager(&server));
    assert_eq!(factor(&ask(&server, "own")), 2.0);
}
