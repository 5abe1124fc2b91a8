//! Rollouts: a good version arrives, a bad one is sent back, and operators decide otherwise.

use std::io::Write as _;
use std::thread;

use nuke_tests::{Repository, Server, components, eventually, open_socket, read_until_closed, status_of};
use serde_json::Value;

use crate::{builder, host, serve, traffic, version};

/// `digits` with a plugin; version 2's is given.
fn digits(canary: &str, rollout: &str) -> Repository {
    Repository::new()
        .model("digits", "1", "digits")
        .plugin(components::build("good"))
        .model("digits", "2", "digits")
        .plugin(components::build(canary))
        .model_yaml(&format!("versions: {{latest: 2}}\ntraffic: {{strategy: rollout, {rollout}}}\n"))
}

/// How long requests take on a busy machine says nothing.
const QUICK: &str = "stable: '1', canary: '2', steps: [10%, 50%, 100%], hold: 1s, gates: {max_error_rate: 5%, latency_ratio: 20, min_requests: 30}";

/// Asks from four clients at once until the condition holds.
fn under_load(server: &Server, what: &str, condition: impl Fn() -> bool) {
    let over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            let (client, over) = (server.client(), &over);
            scope.spawn(move || {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    client.post("/predict/digits", "text/plain", "x");
                }
            });
        }
        struct Stop<'a>(&'a std::sync::atomic::AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let _stop = Stop(&over);
        eventually(what, condition);
    });
}

fn rollout(server: &Server) -> Value {
    traffic(server, "digits")["status"]["rollout"].clone()
}

fn state(server: &Server) -> String {
    rollout(server)["phase"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_canary_that_fails_one_request_in_five_is_rolled_back_by_itself_and_says_why() {
    let server = host(digits("fails-one-in-five", QUICK));
    under_load(&server, "rolled back", || state(&server) == "rolled_back");
    let reason = rollout(&server)["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("error"), "{reason}");
    for _ in 0..20 {
        let answer = server.post("/predict/digits", "text/plain", "x").expect(200);
        assert_eq!(answer.header("x-nuke-model-version"), Some("1"), "all requests go to the stable version");
    }
    let labels = [("model", "digits"), ("outcome", "rolled_back")];
    let counted = || server.metrics().sum("nuke_rollouts_total", &labels);
    eventually("it is counted", || counted() > 0.0);
    assert_eq!(counted(), 1.0);
    let told = |line: &String| line.contains("rolled back") && line.contains(&reason);
    eventually("the log says so", || server.logs().iter().any(told));
    let index = server.post("/v2/repository/index", "", "").expect(200).json();
    let canary = index.as_array().unwrap().iter().find(|entry| entry["version"] == "2").unwrap();
    assert!(canary["reason"].as_str().unwrap().contains("rolled back"), "{canary}");
}

#[test]
fn a_canary_that_does_as_well_reaches_all_requests() {
    let server = host(digits("good", QUICK));
    under_load(&server, "promoted", || state(&server) == "promoted");
    let answer = server.post("/predict/digits", "text/plain", "x").expect(200);
    assert_eq!(answer.header("x-nuke-model-version"), Some("2"));
    let labels = [("model", "digits"), ("outcome", "promoted")];
    let counted = || server.metrics().sum("nuke_rollouts_total", &labels);
    eventually("it is counted", || counted() > 0.0);
    assert_eq!(counted(), 1.0);
}

#[test]
fn a_rollout_goes_on_after_a_restart_and_a_decision_stays() {
    let repository = digits("good", &QUICK.replace("1s", "1h"));
    let server = serve(&repository);
    assert_eq!(state(&server), "running");
    server.post("/admin/models/digits/rollout/abort", "", "").expect(200);
    assert_eq!(state(&server), "rolled_back");
    drop(server);
    let server = serve(&repository);
    assert_eq!(state(&server), "rolled_back", "the decision outlives the process");
    server.post("/admin/models/digits/rollout/retry", "", "").expect(200);
    assert_eq!(state(&server), "running");
    drop(server);
    let server = serve(&repository);
    assert_eq!(state(&server), "running");
    server.post("/admin/models/digits/rollout/promote", "", "").expect(200);
    assert_eq!(state(&server), "promoted");
    let again = server.post("/admin/models/digits/rollout/promote", "", "").expect(409);
    assert!(again.error().contains("digits"), "{}", again.text());
}

#[test]
fn a_new_version_is_rolled_out_by_itself() {
    let repository = Repository::new()
        .model("tiny", "1", "tiny")
        .model_yaml("traffic: {strategy: rollout, steps: [50%, 100%], hold: 1h}\n");
    let server = builder(&repository).start();
    let client = server.client();
    let ask = || version(crate::ask(&client, crate::INFER, 0, &[]));
    assert_eq!(ask(), "1", "nothing is rolled out");
    let repository = repository.model("tiny", "2", "tiny");
    eventually("the new version gets some requests", || ask() == "2");
    assert!((0..200).any(|_| ask() == "1"), "and the old one others");
    let status = || traffic(&server, "tiny")["status"]["rollout"].clone();
    assert_eq!((&status()["stable"], &status()["canary"]), (&"1".into(), &"2".into()));
    server.post("/admin/models/tiny/rollout/promote", "", "").expect(200);
    assert!((0..50).all(|_| ask() == "2"));
    drop(repository);
}

#[test]
fn commands_without_a_rollout_are_refused() {
    let server = host(crate::two_tinies(""));
    for command in ["promote", "abort", "retry"] {
        let answer = server.post(&format!("/admin/models/tiny/rollout/{command}"), "", "").expect(409);
        assert!(answer.error().contains("rollout"), "{}", answer.text());
    }
    server.post("/admin/models/tiny/rollout/destroy", "", "").expect(404);
    server.post("/admin/models/nobody/rollout/abort", "", "").expect(404);
}

#[test]
fn clients_that_send_too_slowly_roll_nothing_back() {
    let rollout = "stable: '1', canary: '2', steps: [50%, 100%], hold: 1h, gates: {max_error_rate: 1%, min_requests: 20}";
    let repository = digits("good", rollout);
    // Longer than a busy machine keeps the others from sending theirs.
    let server = builder(&repository).set("server.body_timeout", "4s").start();
    for _ in 0..60 {
        server.post("/predict/digits", "text/plain", "x").expect(200);
    }
    let head = "POST /predict/digits HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\nx";
    let mut slow: Vec<_> = (0..60)
        .map(|_| {
            let mut stream = open_socket(server.address());
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    for stream in &mut slow {
        let answer = read_until_closed(stream).unwrap();
        assert_eq!(status_of(&answer), 408, "{answer}");
    }
    // As many again as it takes to judge, and the judge comes by every second.
    for _ in 0..60 {
        server.post("/predict/digits", "text/plain", "x").expect(200);
    }
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(state(&server), "running", "{}", self::rollout(&server));
}
