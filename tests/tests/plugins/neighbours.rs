//! What misbehaving plugins do to others: nothing.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use nuke_tests::{Client, Server};
use serde_json::{Value, json};

use crate::serving;

/// One of each kind: time, memory, stack, output, memory safety, logs, traps.
const BAD: [&str; 9] = [
    "loop-forever",
    "grow-forever",
    "deep-recursion",
    "huge-return",
    "bad-utf8",
    "wild-result",
    "stderr-trap",
    "trap-in-postprocess",
    "many-tensors",
];

fn infer(client: &Client, digit: usize) -> Value {
    let data: Vec<usize> = (0..64).map(|pixel| (pixel * (digit + 3)) % 17).collect();
    let body = json!({"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 64], "data": data}]});
    client.post_json("/v2/models/plain/infer", &body).expect(200).json()["outputs"].clone()
}

#[test]
fn good_requests_beside_bad_ones_are_answered_right() {
    let fixtures: Vec<&str> = BAD.iter().copied().chain(["echo-context", "log-flood", "moody"]).collect();
    let repository = serving(&fixtures).model("plain", "1", "digits").model_yaml("queue: {timeout: 60s}\n");
    let server = Server::builder()
        .repository(&repository)
        .set("plugins.time", "600ms")
        .set("plugins.log", "1KiB")
        .start();
    let expected: Vec<Value> = (0..10).map(|digit| infer(&server.client(), digit)).collect();
    let (over, faults) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let bad: Vec<_> = (0..3)
            .map(|thread| {
                let (client, over, faults) = (server.client(), &over, &faults);
                scope.spawn(move || {
                    for model in BAD.iter().cycle().skip(thread * 3) {
                        let answer = client.post(&format!("/predict/{model}"), "", "x").expect(500);
                        assert_eq!(answer.json()["code"], "plugin_fault", "{model}");
                        client.post("/predict/moody", "", "t").expect(500);
                        client.post("/predict/log-flood", "", "x").expect(200);
                        faults.fetch_add(1, Relaxed);
                        if over.load(Relaxed) {
                            return;
                        }
                    }
                })
            })
            .collect();
        let good: Vec<_> = (0..4)
            .map(|thread| {
                let (client, expected, faults) = (server.client(), &expected, &faults);
                scope.spawn(move || {
                    let mut round = 0;
                    while round < 50 || faults.load(Relaxed) < 3 * BAD.len() {
                        let body = format!("body {round} of {thread}").repeat(1 + round % 500);
                        let answer = client.post("/predict/echo-context", "", body.clone()).expect(200);
                        assert!(answer.text() == body, "{round}: another request's answer");
                        // It shares its plugin, not its instance, with the calls that trap.
                        client.post("/predict/moody", "", "x").expect(200);
                        assert_eq!(infer(&client, round % 10), expected[round % 10], "{round}");
                        round += 1;
                    }
                })
            })
            .collect();
        let outcomes: Vec<_> = good.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Relaxed);
        let outcomes: Vec<_> = outcomes.into_iter().chain(bad.into_iter().map(|bad| bad.join())).collect();
        assert!(outcomes.iter().all(Result::is_ok), "see the panics above");
    });
    let metrics = server.metrics();
    for model in ["echo-context", "plain"] {
        let labels = [("model", model)];
        let answered = metrics.sum("nuke_requests_total", &labels);
        let good = metrics.sum("nuke_requests_total", &[("model", model), ("outcome", "ok")]);
        assert_eq!(answered, good, "{model}");
        assert_eq!(metrics.sum("nuke_plugin_instances_broken_total", &labels), 0.0, "{model}");
        assert_eq!(metrics.sum("nuke_requests_in_flight", &labels), 0.0, "{model}");
    }
}

#[test]
fn memory_does_not_pile_up_over_faults() {
    let fixtures = ["grow-forever", "huge-return", "huge-answer", "many-tensors", "deep-recursion", "trap"];
    let server = Server::builder().repository(&serving(&fixtures)).set("plugins.time", "20s").start();
    let round = || {
        for model in fixtures {
            server.post(&format!("/predict/{model}"), "", "x").expect(500);
        }
    };
    (0..5).for_each(|_| round());
    let before = server.rss();
    (0..30).for_each(|_| round());
    let after = server.rss();
    let grown = after.saturating_sub(before) >> 20;
    // One instance that is kept by mistake would hold up to 256 MiB, and one tensor 200 MiB.
    assert!(grown < 48, "{grown} MiB more after 180 faults: {before} to {after} bytes");
}
