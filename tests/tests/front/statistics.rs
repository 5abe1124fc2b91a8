//! The statistics extension: what counts as what.

use std::thread;

use nuke_tests::{Repository, Server, refused};
use serde_json::{Value, json};

use super::{models, one};

fn of(server: &Server, path: &str) -> Value {
    let stats = server.get(path).expect(200).json()["model_stats"].clone();
    assert_eq!(stats.as_array().unwrap().len(), 1, "{stats}");
    stats[0].clone()
}

#[test]
fn requests_that_share_a_run_count_one_by_one_and_their_run_once() {
    // A run begins when 64 items are there, and not before.
    let repository = Repository::new().model("tiny", "1", "tiny").model_yaml(
        "{workers: {max: 1}, batching: {max_batch_size: 64, max_queue_delay: 10s}, queue: {timeout: 60s}}",
    );
    let server = Server::builder().repository(&repository).start();
    let before = of(&server, "/v2/models/tiny/versions/1/stats");
    assert_eq!(before["execution_count"], 0, "what warms up does not count: {before}");
    assert_eq!((&before["inference_count"], &before["last_inference"]), (&json!(0), &json!(0)));
    thread::scope(|scope| {
        let all: Vec<_> =
            (0..64).map(|_| scope.spawn(|| server.post_json("/v2/models/tiny/infer", &one()))).collect();
        for each in all {
            each.join().unwrap().expect(200);
        }
    });
    let after = of(&server, "/v2/models/tiny/stats");
    assert_eq!(after["inference_count"], 64, "{after}");
    assert_eq!(after["execution_count"], 1, "{after}");
    let stats = &after["inference_stats"];
    for part in ["success", "queue", "compute_input", "compute_infer", "compute_output"] {
        assert_eq!(stats[part]["count"], 64, "{part}: {after}");
    }
    let ns = |part: &str| stats[part]["ns"].as_u64().unwrap();
    let parts = ns("queue") + ns("compute_input") + ns("compute_infer") + ns("compute_output");
    assert!(ns("compute_infer") > 0 && parts <= ns("success"), "{after}");
    for part in ["fail", "cache_hit", "cache_miss"] {
        assert_eq!(stats[part], json!({"count": 0, "ns": 0}));
    }
    let batches = after["batch_stats"].as_array().unwrap();
    assert_eq!(batches.len(), 1, "{after}");
    assert_eq!((&batches[0]["batch_size"], &batches[0]["compute_infer"]["count"]), (&json!(64), &json!(1)));
    // Every request of a run counts all of it.
    assert_eq!(ns("compute_infer"), 64 * batches[0]["compute_infer"]["ns"].as_u64().unwrap());
    assert!(after["last_inference"].as_u64().unwrap() > 1_700_000_000_000);
}

#[test]
fn items_and_failures_count_and_what_never_came_to_the_model_does_not() {
    let server = Server::builder().repository(&models()).start();
    let five = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [5, 16], "data": vec![1; 80]}]});
    server.post_json("/v2/models/tiny/infer", &five).expect(200);
    server.post_json("/predict/tiny", &one()).expect(200);
    server.post_json("/v1/models/tiny:predict", &json!({"instances": vec![vec![1; 16]; 3]})).expect(200);
    refused(&server.post_json("/v2/models/tiny/infer", &json!({"inputs": []})), 400, &["tiny"]);
    let stats = of(&server, "/v2/models/tiny/stats");
    assert_eq!((&stats["inference_count"], &stats["execution_count"]), (&json!(9), &json!(3)), "{stats}");
    assert_eq!(stats["inference_stats"]["fail"]["count"], 0);
    let sizes: Vec<_> =
        stats["batch_stats"].as_array().unwrap().iter().map(|one| &one["batch_size"]).collect();
    assert_eq!(sizes, [1, 3, 5]);
    let all = server.get("/v2/models/stats").expect(200).json();
    assert_eq!(all["model_stats"].as_array().unwrap().len(), 3, "{all}");
    refused(&server.get("/v2/models/nobody/stats"), 404, &["Request for unknown model"]);
    refused(&server.get("/v2/models/tiny/versions/9/stats"), 404, &["version 9"]);
}

#[test]
fn requests_that_the_queue_refuses_have_failed() {
    let repository =
        Repository::new().model("slow", "1", "slow").model_yaml("{workers: {max: 1}, queue: {timeout: 1s}}");
    let server = Server::builder().repository(&repository).start();
    thread::scope(|scope| {
        let path = "/v2/models/slow/infer";
        let running = scope.spawn(|| server.post_json(path, &nuke_tests::slow_request(4000)));
        nuke_tests::worker_is_busy(&server);
        refused(&server.post_json(path, &nuke_tests::slow_request(1)), 503, &["queue.timeout"]);
        running.join().unwrap().expect(200);
    });
    let stats = of(&server, "/v2/models/slow/stats");
    assert_eq!(stats["inference_stats"]["fail"]["count"], 1, "{stats}");
    assert!(stats["inference_stats"]["fail"]["ns"].as_u64().unwrap() >= 1_000_000_000, "{stats}");
    assert_eq!(stats["inference_stats"]["success"]["count"], 1, "{stats}");
}
