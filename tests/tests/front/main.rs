//! What surrounds a request: its name, its statistics, who may ask from a web page, where its time went, and the
//! document of all routes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod clients;
mod document;
mod origins;
mod rows;
mod statistics;

use nuke_tests::{Repository, Server, eventually};
use serde_json::{Value, json};

/// A model that takes rows of 16 numbers, and one of two inputs.
fn models() -> Repository {
    Repository::new().model("tiny", "1", "tiny").model("two_inputs", "1", "two_inputs").model(
        "echo_bytes",
        "1",
        "echo_bytes",
    )
}

/// A request for `tiny`.
fn one() -> Value {
    json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": vec![1; 16]}]})
}

#[test]
fn a_request_has_one_name_in_its_answer_its_error_and_the_log() {
    let server = Server::builder().repository(&models()).start();
    let client = server.client();
    let ask = |path: &str, headers: &[(&str, &str)]| {
        let request = client.request("POST", path).body(one().to_string());
        headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send()
    };
    let own = ask("/v2/models/tiny/infer", &[("x-request-id", "order-17/b")]).expect(200);
    assert_eq!(own.header("x-request-id"), Some("order-17/b"));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let failed = ask("/v2/models/nobody/infer", &[("traceparent", &parent)]).expect(404);
    assert_eq!(failed.header("x-request-id"), Some(trace));
    assert_eq!(failed.json()["request_id"], trace);
    assert_eq!(failed.header("content-length"), Some(failed.body.len().to_string().as_str()));
    let hostile = ask("/v2/models/nobody/infer", &[("x-request-id", "a\"},{\"b\":\"c")]).expect(404);
    let made = hostile.header("x-request-id").unwrap().to_owned();
    assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
    assert_eq!(hostile.json()["request_id"], made.as_str());
    assert_ne!(ask("/v2/models/tiny/infer", &[]).header("x-request-id"), Some(made.as_str()));
    let line = |id: &str| server.log_lines("access").into_iter().find(|line| line["request_id"] == id);
    for id in ["order-17/b", trace, made.as_str()] {
        eventually("the request's line is written", || line(id).is_some());
    }
    assert_eq!(line(trace).unwrap()["trace_id"], trace);
    assert_eq!(line(&made).unwrap()["code"], "not_found");
}

#[test]
fn where_the_time_went_is_told_to_whom_the_operator_says() {
    let repository = models();
    for (setting, asks, told) in
        [("off", true, false), ("asked", false, false), ("asked", true, true), ("on", false, true)]
    {
        let server = Server::builder().repository(&repository).set("server.server_timing", setting).start();
        let client = server.client();
        let mut request = client.request("POST", "/v2/models/tiny/infer").body(one().to_string());
        if asks {
            request = request.header("x-nuke-server-timing", "1");
        }
        let answer = request.send().expect(200);
        let header = answer.header("server-timing").unwrap_or_default();
        assert_eq!(!header.is_empty(), told, "{setting}: {header}");
        if told {
            let stages: Vec<&str> = header
                .split(", ")
                .filter_map(|entry| entry.split_once(";dur="))
                .map(|(name, _)| name)
                .collect();
            assert_eq!(stages, ["queue", "infer", "total"]);
        }
    }
}

#[test]
fn what_is_not_ready_says_when_to_ask_again() {
    let repository = Repository::new().model("broken", "1", "wrong-op");
    let server = Server::builder().repository(&repository).start();
    for path in ["/v2/models/broken/ready", "/v1/models/broken", "/v2/models/broken/versions/1/ready"] {
        let answer = server.get(path).expect(503);
        assert_eq!(answer.header("retry-after"), Some("1"), "{path}");
        assert_eq!(answer.json()["ready"], false);
    }
    let answer = server.post_json("/v2/models/broken/infer", &one()).expect(503);
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[test]
fn what_is_logged_changes_while_the_host_runs() {
    let server = Server::builder().repository(&models()).start();
    assert_eq!(server.get("/v2/logging").expect(200).json()["filter"], "info");
    let changed = server.post_json("/v2/logging", &json!({"log_info": false})).expect(200).json();
    assert_eq!((&changed["filter"], &changed["log_warning"]), (&json!("warn"), &json!(true)));
    let quiet = server.client().request("GET", "/v2/health/live").header("x-request-id", "unseen").send();
    quiet.expect(200);
    server.post_json("/v2/logging", &json!({"filter": "info,nuke_host=debug"})).expect(200);
    server.client().request("GET", "/v2/health/live").header("x-request-id", "seen").send().expect(200);
    let seen = |id: &str| server.log_lines("access").iter().any(|line| line["request_id"] == id);
    eventually("the line is written", || seen("seen"));
    assert!(!seen("unseen"));
    let wrong = server.post_json("/v2/logging", &json!({"filter": "everything"})).expect(400);
    assert!(wrong.error().contains("expected a level"), "{}", wrong.error());
    // A page of another origin may not.
    let client = server.client();
    let stranger = client.request("POST", "/v2/logging").header("origin", "http://evil.example").body("{}");
    stranger.send().expect(403);
}
