//! More requests than a model can take, and requests that take longer than anybody will wait: refused at once
//! or in time, with a status that says what to do about it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::thread;

use nuke_tests::{RawConnection, Repository, Server, eventually, refused, slow_request};
use serde_json::json;

/// Milliseconds of work that would take longer than any test waits.
const ENDLESS: u32 = 3_600_000;

/// Keeps the only worker of a model busy until this is dropped.
fn occupy(server: &Server, model: &str) -> RawConnection {
    let mut running = server.connect();
    let body = slow_request(ENDLESS).to_string();
    running.send_post(&format!("/v2/models/{model}/infer"), body.as_bytes());
    eventually("the worker is busy", || busy(server, model) == 1.0);
    running
}

fn busy(server: &Server, model: &str) -> f64 {
    server.metrics().sum("nuke_workers_busy", &[("model", model)])
}

#[test]
fn requests_beyond_the_queue_are_refused_at_once_and_those_in_it_in_time() {
    // Two models, so that the one queue is full for as long as it takes to find that out.
    let settings = |timeout: &str| format!("{{workers: {{max: 1}}, queue: {{size: 1, timeout: {timeout}}}}}");
    let repository = Repository::new().model("full", "1", "slow").model_yaml(&settings("10m"));
    let repository = repository.model("late", "1", "slow").model_yaml(&settings("1s"));
    let server = Server::builder().repository(&repository).set("server.request_timeout", "10m").start();
    let metric = |name: &str, labels: &[(&str, &str)]| server.metrics().sum(name, labels);

    let (path, running) = ("/v2/models/full/infer", occupy(&server, "full"));
    let mut waiting = server.connect();
    waiting.send_post(path, slow_request(1).to_string().as_bytes());
    eventually("one request waits", || metric("nuke_queue_requests", &[("model", "full")]) == 1.0);
    for _ in 0..4 {
        let full = server.post_json(path, &slow_request(1));
        refused(&full, 429, &["full", "1", "queue.size"]);
        assert!(full.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()));
    }
    drop(running);
    assert_eq!(waiting.read_answer().unwrap().status, 200);

    let (path, running) = ("/v2/models/late/infer", occupy(&server, "late"));
    for _ in 0..2 {
        // Who gave up no longer takes a place: the next one may wait in turn.
        let waited = server.post_json(path, &slow_request(1));
        refused(&waited, 503, &["late", "1000 ms", "queue.timeout"]);
        assert!(waited.header("retry-after").is_some());
    }
    drop(running);
    eventually("the worker is free", || busy(&server, "late") == 0.0);
    server.post_json(path, &slow_request(1)).expect(200);

    let outcomes = |model| {
        ["ok", "resource_exhausted", "unavailable"]
            .map(|outcome| metric("nuke_requests_total", &[("model", model), ("outcome", outcome)]))
    };
    assert_eq!((outcomes("full"), outcomes("late")), ([1.0, 4.0, 0.0], [1.0, 0.0, 2.0]));
    eventually("nothing is in flight", || metric("nuke_requests_in_flight", &[]) == 0.0);
}

#[test]
fn a_queue_of_size_0_lets_none_wait_but_serves_who_finds_a_worker_free() {
    let repository = Repository::new()
        .model("slow", "1", "slow")
        .model_yaml("{workers: {max: 1}, queue: {size: 0, timeout: 5s}}");
    let server = Server::builder().repository(&repository).start();
    let path = "/v2/models/slow/infer";
    for _ in 0..20 {
        // The worker is free again a moment after its answer has gone out.
        eventually("a worker is found free", || server.post_json(path, &slow_request(1)).status == 200);
    }
    thread::scope(|scope| {
        let running = loop {
            // A worker counts as busy until a moment after its answer has gone out.
            eventually("the worker is free", || server.metrics().sum("nuke_workers_busy", &[]) == 0.0);
            let running = scope.spawn(|| server.post_json(path, &slow_request(4000)));
            eventually("the worker is busy", || {
                running.is_finished() || server.metrics().sum("nuke_workers_busy", &[]) == 1.0
            });
            if !running.is_finished() {
                break running;
            }
            refused(&running.join().unwrap(), 429, &["queue.size"]);
        };
        refused(&server.post_json(path, &slow_request(1)), 429, &["slow", "queue.size"]);
        running.join().unwrap().expect(200);
    });
}

#[test]
fn a_request_that_takes_too_long_is_504_by_its_own_word_or_the_servers() {
    let settings = "{workers: {max: 1}, queue: {timeout: 10m}}";
    let repository = Repository::new().model("slow", "1", "slow").model_yaml(settings);
    let path = "/v2/models/slow/infer";
    let start = |timeout: &str| {
        Server::builder().repository(&repository).set("server.request_timeout", timeout).start()
    };
    let late =
        |server: &Server| server.metrics().sum("nuke_requests_total", &[("outcome", "deadline_exceeded")]);

    let server = start("600ms");
    // Minutes of work: the model is stopped when nobody waits for it any more.
    refused(&server.post_json(path, &slow_request(600_000)), 504, &["slow", "time"]);
    assert_eq!(late(&server), 1.0);
    eventually("the worker is free", || busy(&server, "slow") == 0.0);

    let server = start("10m");
    let running = occupy(&server, "slow");
    // This one's time runs out while it waits.
    let mut impatient = slow_request(1);
    impatient["parameters"] = json!({"timeout": 50_000});
    refused(&server.post_json(path, &impatient), 504, &["slow", "time"]);
    drop(running);
    for unlimited in [json!(0), json!(u64::MAX)] {
        let mut patient = slow_request(1);
        patient["parameters"] = json!({"timeout": unlimited});
        server.post_json(path, &patient).expect(200);
    }
    assert_eq!(late(&server), 1.0);
}
