//! Versions whose workers die again and again: they are given up, and the last good one takes over.

use std::fs;

use nuke_tests::{Repository, Server, eventually, root};
use rustix::process::Signal;

use super::{PATIENT, ask_tiny, builder, isolated, send, workers};

fn tiny() -> Vec<u8> {
    fs::read(root().join("tests/fixtures/models/tiny/1/model.onnx")).unwrap()
}

/// Ends each worker that there is until a version has another state than ready.
fn kill_until_given_up(server: &Server, model: &str, version: &str) -> String {
    let mut reason = String::new();
    eventually("the version is given up", || {
        let (state, why) = server.state(model, version);
        if state == "READY" {
            workers(server.id()).into_iter().for_each(|id| send(id, Signal::ABORT));
            return false;
        }
        reason = why;
        state == "UNAVAILABLE" && reason.contains("times in a row")
    });
    reason
}

#[test]
fn the_last_good_version_takes_over_and_a_mended_one_takes_back() {
    let repository =
        Repository::new().model("m", "1", "tiny").model("neighbour", "1", "tiny").model("m", "2", "tiny");
    let repository = repository.model_yaml(&isolated(1, ""));
    let server = builder(&repository).start();
    assert_eq!(server.state("m", "2").0, "READY");
    let reason = kill_until_given_up(&server, "m", "2");
    assert!(reason.contains("SIGABRT") && reason.contains("publish a mended version"), "{reason}");
    // `versions: {latest: 1}` would not have version 1 loaded.
    eventually("version 1 serves", || ask_tiny(&server.client(), "m").is_ok());
    ask_tiny(&server.client(), "neighbour").unwrap();
    assert_eq!(server.state("m", "1").0, "READY");
    assert_eq!(server.state("m", "2").0, "UNAVAILABLE");
    let told = |line: &String| line.contains("the version was given up while it served");
    eventually("the log says so", || server.logs().iter().any(told));
    // New content of the one that failed is tried at once, and takes over.
    let folder = repository.models().join("m/2");
    fs::write(folder.join("labels.txt"), "mended").unwrap();
    eventually("version 2 serves again", || {
        let index = server.post("/v2/repository/index", "", "").expect(200).text();
        server.state("m", "2").0 == "READY" && !index.contains(r#""name":"m","version":"1""#)
    });
    ask_tiny(&server.client(), "m").unwrap();
}

#[test]
fn without_another_version_requests_are_told_why() {
    let repository = Repository::new().model("m", "1", "tiny").model_yaml(&isolated(1, ""));
    let server = builder(&repository).start();
    let reason = kill_until_given_up(&server, "m", "1");
    let answer = server.post_json("/v2/models/m/infer", &serde_json::json!({"inputs": []})).expect(503);
    assert!(answer.error().contains("times in a row"), "{}", answer.error());
    assert!(reason.contains("its workers died"), "{reason}");
    // Whoever loads it again has it tried again.
    server.post("/v2/repository/models/m/load", "application/json", "{}").expect(200);
    ask_tiny(&server.client(), "m").unwrap();
    // A third version in the host itself is no different from any other.
    fs::create_dir_all(repository.models().join("m/3")).unwrap();
    fs::write(repository.models().join("m/3/model.onnx"), tiny()).unwrap();
    fs::write(repository.models().join("m/model.yaml"), PATIENT).unwrap();
    eventually("version 3 serves", || {
        let index = server.post("/v2/repository/index", "", "").expect(200).text();
        index.contains(r#""version":"3""#) && server.state("m", "3").0 == "READY"
    });
    eventually("no worker is left", || workers(server.id()).is_empty());
}
