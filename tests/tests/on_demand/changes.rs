//! Files and traffic that change while a model is not in memory.

use std::fs;

use nuke_tests::marks::tiny;
use nuke_tests::{Repository, eventually};

use crate::{ask, builder, factor, lazy, loads, replace, status};

#[test]
fn new_content_of_a_cold_model_is_checked_and_not_loaded() {
    let repository = lazy(Repository::new(), "cold", 1.0);
    let server = builder(&repository).start();
    let transitions = |state: &str| {
        server.metrics().sum("nuke_model_transitions_total", &[("model", "cold"), ("state", state)])
    };
    let before = transitions("validating");
    replace(&repository.models().join("cold/1/model.onnx"), &tiny(2.0));
    eventually("it is checked", || transitions("validating") > before);
    eventually("it is done", || status(&server, "cold") == "standby");
    assert_eq!(transitions("warming"), 0.0);
    assert_eq!(factor(&ask(&server, "cold")), 2.0);
    // A next version, while the first is in memory, and while it is not.
    for (version, number) in [("2", 3.0), ("3", 4.0)] {
        let folder = repository.models().join("fresh");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("model.onnx"), tiny(number)).unwrap();
        fs::rename(folder, repository.models().join("cold").join(version)).unwrap();
        eventually("the next one answers", || factor(&ask(&server, "cold")) == f64::from(number));
    }
}

#[test]
fn a_cold_model_whose_content_breaks_says_so_and_heals() {
    let repository = lazy(Repository::new(), "cold", 1.0);
    let server = builder(&repository).start();
    let file = repository.models().join("cold/1/model.onnx");
    replace(&file, b"no model");
    eventually("it is known", || status(&server, "cold") == "failed");
    let refused = ask(&server, "cold").expect(503).error();
    assert!(refused.contains("model.onnx"), "{refused}");
    server.get("/v2/models/cold/ready").expect(503);
    replace(&file, &tiny(6.0));
    eventually("it is checked", || status(&server, "cold") == "standby");
    assert_eq!(factor(&ask(&server, "cold")), 6.0);
}

#[test]
fn who_waits_for_content_that_broke_unseen_gets_the_reason() {
    let repository = lazy(Repository::new(), "cold", 1.0);
    let server = builder(&repository).set("repository.watch", "poll").set("repository.rescan", "1h").start();
    replace(&repository.models().join("cold/1/model.onnx"), b"no model");
    let mut connections: Vec<_> = (0..20).map(|_| server.connect()).collect();
    let body = nuke_tests::marks::infer_body();
    connections.iter_mut().for_each(|connection| connection.send_post("/v2/models/cold/infer", &body));
    for connection in &mut connections {
        let answer = connection.read_answer().unwrap().expect(503);
        assert!(answer.error().contains("model.onnx"), "{}", answer.error());
    }
    assert_eq!(status(&server, "cold"), "failed");
    // All of them together brought about no more than the tries that were due.
    assert!(loads(&server, "cold", "failed") <= 3.0, "{}", server.metrics().text());
}

#[test]
fn a_request_waits_no_longer_than_its_own_time() {
    let repository = lazy(Repository::new(), "cold", 1.0);
    let server = builder(&repository).start();
    // What it was made of is gone for the moment, as while it is being replaced.
    fs::rename(repository.models(), repository.models().with_file_name("away")).unwrap();
    let mut body: serde_json::Value = serde_json::from_slice(&nuke_tests::marks::infer_body()).unwrap();
    body["parameters"] = serde_json::json!({"timeout": 300_000});
    let mut asked = 0;
    // Its time runs from its head on: of one whose body came late, less is left for the load.
    eventually("nearly all of it is spent at the load", || {
        asked += 1;
        let answer = server.post_json("/v2/models/cold/infer", &body).expect(504);
        assert!(answer.error().contains("being loaded for it"), "{}", answer.error());
        let waited: u64 = answer.header("x-nuke-load-wait-ms").unwrap().parse().unwrap();
        waited >= 290
    });
    let outcome = [("model", "cold"), ("outcome", "deadline_exceeded")];
    assert_eq!(server.metrics().sum("nuke_requests_total", &outcome), f64::from(asked));
    fs::rename(repository.models().with_file_name("away"), repository.models()).unwrap();
    eventually("it is there again", || ask(&server, "cold").status == 200);
}

#[test]
fn traffic_goes_to_versions_that_are_loaded_on_demand() {
    let repository = lazy(Repository::new(), "cold", 1.0)
        .empty_version("cold", "2")
        .file("model.onnx", tiny(2.0))
        .model_yaml("load: lazy\nidle: 200ms\nlabels: {old: \"1\"}\ntraffic: {strategy: split, weights: {old: 50, \"2\": 50}}\n");
    let server = builder(&repository).start();
    let arms = || {
        let traffic = server.get("/admin/models/cold/traffic").expect(200).json();
        traffic["status"]["arms"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(arms(), 2, "both count as ready");
    let mut seen = std::collections::BTreeSet::new();
    eventually("both answer", || {
        seen.insert(factor(&ask(&server, "cold")) as u64);
        seen.len() == 2
    });
    let both_rest = || {
        let all = server.get("/admin/models/cold").expect(200).json();
        all["versions"].as_array().unwrap().iter().all(|version| version["state"] == "standby")
    };
    eventually("both lie idle", both_rest);
    assert_eq!(arms(), 2);
    let named = server.post(
        "/v2/models/cold/versions/old/infer",
        "application/json",
        nuke_tests::marks::infer_body(),
    );
    assert_eq!(factor(&named), 1.0);
}
