//! More requests than a model can take, and requests that take longer than anybody will wait: refused at once
//! or in time, with a status that says what to do about it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::thread;

use nuke_tests::{Repository, Server, eventually, refused, slow_request, worker_is_busy};
use serde_json::json;

#[test]
fn requests_beyond_the_queue_are_refused_at_once_and_those_in_it_in_time() {
    let repository = Repository::new()
        .model("slow", "1", "slow")
        .model_yaml("{workers: {max: 1}, queue: {size: 1, timeout: 1s}}");
    let server = Server::builder().repository(&repository).start();
    let path = "/v2/models/slow/infer";
    thread::scope(|scope| {
        let running = scope.spawn(|| server.post_json(path, &slow_request(3500)));
        worker_is_busy(&server);
        let waiting = scope.spawn(|| server.post_json(path, &slow_request(1)));
        eventually("one request waits", || {
            waiting.is_finished() || server.metrics().sum("nuke_queue_requests", &[]) == 1.0
        });
        let refusals: Vec<_> = (0..4).map(|_| server.post_json(path, &slow_request(1))).collect();
        let waited = waiting.join().unwrap();
        refused(&waited, 503, &["slow", "1000 ms", "queue.timeout"]);
        assert!(waited.header("retry-after").is_some());
        for full in refusals {
            refused(&full, 429, &["slow", "1", "queue.size"]);
            assert!(full.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()));
        }
        // Who gave up no longer takes a place: the next one may wait in turn.
        refused(&server.post_json(path, &slow_request(1)), 503, &["queue.timeout"]);
        running.join().unwrap().expect(200);
    });
    server.post_json(path, &slow_request(1)).expect(200);
    let metrics = server.metrics();
    let outcomes = |outcome| metrics.sum("nuke_requests_total", &[("model", "slow"), ("outcome", outcome)]);
    assert_eq!((outcomes("ok"), outcomes("resource_exhausted"), outcomes("unavailable")), (2.0, 4.0, 2.0));
    assert_eq!(metrics.sum("nuke_requests_in_flight", &[]), 0.0);
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
    let repository = Repository::new().model("slow", "1", "slow").model_yaml("{queue: {timeout: 20s}}");
    let server = Server::builder().repository(&repository).set("server.request_timeout", "600ms").start();
    let path = "/v2/models/slow/infer";
    thread::scope(|scope| {
        // Minutes of work: the model is stopped when nobody waits for it any more.
        let long = scope.spawn(|| server.post_json(path, &slow_request(600_000)));
        worker_is_busy(&server);
        // This one's time runs out while it waits.
        let mut impatient = slow_request(1);
        impatient["parameters"] = json!({"timeout": 50_000});
        refused(&server.post_json(path, &impatient), 504, &["slow", "time"]);
        refused(&long.join().unwrap(), 504, &["slow", "time"]);
    });
    eventually("the worker is free", || server.metrics().sum("nuke_workers_busy", &[]) == 0.0);
    for unlimited in [json!(0), json!(u64::MAX)] {
        let mut patient = slow_request(1);
        patient["parameters"] = json!({"timeout": unlimited});
        server.post_json(path, &patient).expect(200);
    }
    assert_eq!(server.metrics().sum("nuke_requests_total", &[("outcome", "deadline_exceeded")]), 2.0);
}
