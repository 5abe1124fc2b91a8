//! What a client gets when a plugin misbehaves in a call.

use nuke_tests::{Answer, Repository, Server, components};
use serde_json::json;

use crate::serving;

/// A fixture and what its error has to name besides the plugin.
type Fault = (&'static str, &'static [&'static str]);

/// Those that would run for ever.
const ENDLESS: [Fault; 5] = [
    ("loop-forever", &["plugins.time", "300 ms"]),
    ("loop-in-postprocess", &["plugins.time", "300 ms"]),
    ("loop-in-realloc", &["plugins.time", "300 ms"]),
    ("loop-in-post-return", &["plugins.time", "300 ms"]),
    ("slow-copy", &["plugins.time", "300 ms"]),
];

const OTHERS: [Fault; 24] = [
    ("grow-forever", &["plugins.memory", "256.0 MiB"]),
    ("deep-recursion", &["stack"]),
    ("trap", &["unreachable"]),
    ("trap-in-postprocess", &["unreachable"]),
    ("stderr-trap", &["unreachable"]),
    ("huge-return", &["plugins.output", "64.0 MiB"]),
    ("huge-context", &["plugins.output", "64.0 MiB"]),
    ("huge-answer", &["plugins.output", "64.0 MiB"]),
    ("many-tensors", &["plugins.output", "64.0 MiB"]),
    ("out-of-bounds-return", &["out of bounds"]),
    ("wild-result", &["out of bounds"]),
    ("unaligned-result", &["not aligned"]),
    ("bad-discriminant", &["discriminant"]),
    ("bad-datatype", &["discriminant", "200"]),
    ("bad-utf8", &["utf-8"]),
    ("bad-utf8-name", &["utf-8"]),
    ("header-injection", &["text/plain\\r\\nevil: 1"]),
    ("wrong-length", &["'X'", "256", "255"]),
    ("overflowing-shape", &["'X'", "4294967295"]),
    ("wrong-shape", &["'X'", "64", "63"]),
    ("wrong-datatype", &["'X'", "FP32", "INT32"]),
    ("unknown-input-name", &["'Y'", "'X'"]),
    ("missing-input", &["'X'"]),
    ("duplicate-input", &["'X'", "more than once"]),
];

/// What is wrong with how a fault is answered; `None` if nothing.
fn complaint(fixture: &str, answer: &Answer, names: &[&str]) -> Option<String> {
    if answer.status != 500 {
        return Some(format!("{fixture}: status {}: {}", answer.status, answer.text()));
    }
    let (body, message) = (answer.json(), answer.error());
    let missing = names.iter().chain(&["plugin 'plugin.wasm'"]).find(|name| !message.contains(**name));
    if let Some(name) = missing {
        return Some(format!("{fixture}: '{name}' is not in '{message}'"));
    }
    let one_line = !message.contains('\n') && !message.ends_with('.');
    (body["code"] != "plugin_fault" || !one_line).then(|| format!("{fixture}: {body}"))
}

#[track_caller]
fn assert_plugin_fault(fixture: &str, answer: &Answer, names: &[&str]) {
    assert_eq!(complaint(fixture, answer, names), None);
}

/// Each twice: what the first leaves behind must not stand in the way of the second.
#[track_caller]
fn assert_plugin_faults(server: &Server, faults: &[Fault]) {
    let twice = faults.iter().flat_map(|fault| [fault, fault]);
    let complaints: Vec<String> = twice
        .filter_map(|(fixture, names)| {
            complaint(fixture, &server.post(&format!("/predict/{fixture}"), "", "x"), names)
        })
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_call_without_end_is_ended_at_its_limit() {
    let fixtures = ENDLESS.map(|(name, _)| name);
    let server = Server::builder().repository(&serving(&fixtures)).set("plugins.time", "300ms").start();
    assert_plugin_faults(&server, &ENDLESS);
}

#[test]
fn a_start_without_end_is_found_at_the_load() {
    let repository = serving(&["loop-at-start", "good"]);
    let server = Server::builder().repository(&repository).set("plugins.time", "300ms").start();
    let answer = server.post("/predict/loop-at-start", "", "x").expect(503);
    assert!(answer.error().contains("plugins.time"), "{}", answer.error());
    assert_eq!(server.post("/predict/good", "", "x").expect(200).text(), "ok");
}

#[test]
fn each_other_fault_is_answered_with_what_went_wrong() {
    let fixtures = OTHERS.map(|(name, _)| name);
    // Time enough for the slowest of these on the busiest machine.
    let server = Server::builder().repository(&serving(&fixtures)).set("plugins.time", "20s").start();
    assert_plugin_faults(&server, &OTHERS);
}

#[test]
fn limits_are_those_of_the_configuration() {
    let repository = serving(&["grow-forever", "huge-context"]).model("big", "1", "big");
    let repository = repository.plugin(components::build("tensor-600k"));
    let server = Server::builder()
        .repository(&repository)
        .set("plugins.memory", "220MiB")
        .set("plugins.output", "512KiB")
        .set("plugins.time", "20s")
        .start();
    let answer = server.post("/predict/grow-forever", "", "x");
    assert_plugin_fault("grow-forever", &answer, &["plugins.memory", "220.0 MiB"]);
    assert_plugin_fault("huge-context", &server.post("/predict/huge-context", "", "x"), &["0.5 MiB"]);
    assert_plugin_fault("tensor-600k", &server.post("/predict/big", "", "x"), &["plugins.output", "0.5 MiB"]);
}

#[test]
fn memory_that_is_declared_is_limited_without_the_pool_of_memories_too() {
    let repository = serving(&["memory-at-start", "table-at-start", "good"]);
    let server = Server::builder().repository(&repository).set("plugins.pooling", "off").start();
    let answer = server.post("/predict/memory-at-start", "", "x");
    assert!(answer.expect(503).error().contains("plugins.memory"));
    assert!(server.post("/predict/table-at-start", "", "x").expect(503).error().contains("table"));
    assert_eq!(server.post("/predict/good", "", "x").expect(200).text(), "ok");
}

#[test]
fn what_a_plugin_reports_in_order_is_the_clients_answer() {
    let server = Server::builder().repository(&serving(&["error-codes", "plugin-error"])).start();
    let codes = [("0", 400), ("1", 415), ("2", 413), ("3", 404), ("4", 503), ("5", 500)];
    for (body, status) in codes {
        let answer = server.post("/predict/error-codes", "", body).expect(status);
        assert_eq!(answer.error(), "as asked", "{body}");
        assert_eq!(answer.header("retry-after").is_some(), status == 503, "{:?}", answer.headers);
    }
    assert_plugin_fault("9", &server.post("/predict/error-codes", "", "9"), &["discriminant", "9"]);
    let body = server.post("/predict/plugin-error", "", "x").expect(400).json();
    assert_eq!(body["error"], "the body holds no digits: send 64 numbers");
    assert_eq!(body["code"], "invalid_argument");
    assert_eq!(body["details"], json!({"field": "body", "expected": "64 numbers"}));
}

#[test]
fn an_errors_details_say_what_the_guest_said_last() {
    let server = Server::builder().repository(&serving(&["stderr-trap", "moody", "deep-recursion"])).start();
    let details = |fixture: &str, body: &str| {
        server.post(&format!("/predict/{fixture}"), "", body).expect(500).json()["details"].clone()
    };
    assert_eq!(details("stderr-trap", "x")["output"], "panicked at fixture: the end of the line\n");
    assert_eq!(details("moody", "e")["log"], "the last words");
    assert_eq!(details("moody", "t")["log"], json!(null), "another call's words");
    let backtrace = details("deep-recursion", "x")["backtrace"].as_str().unwrap().to_owned();
    assert!(backtrace.contains("deeper < deeper") && backtrace.len() < 4096, "{backtrace}");
}

#[test]
fn an_answer_cannot_forge_headers() {
    let server = Server::builder().repository(&serving(&["header-injection"])).start();
    let mut connection = server.connect();
    connection.send_post("/predict/header-injection", b"x");
    let answer = connection.read_answer().unwrap().expect(500);
    assert!(!answer.headers.contains_key("evil"), "{:?}", answer.headers);
    assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("nuke-")), "{:?}", answer.headers);
    // The answer ended where it said it would: the next one is whole.
    connection.send_post("/predict/header-injection", b"x");
    assert_eq!(connection.read_answer().unwrap().status, 500);
}

#[test]
fn a_guest_sees_no_files_no_variables_and_no_arguments() {
    let server = Server::builder().repository(&serving(&["wasi-probe"])).env("SECRET", "42").start();
    let details = server.post("/predict/wasi-probe?a=b", "", "x").expect(400).json()["details"].clone();
    assert_eq!(details, json!({"folders": "0000", "variables": "0000", "arguments": "0000"}));
}

#[test]
fn well_behaved_plugins_carry_bytes_and_large_tensors_through() {
    let repository = serving(&["good", "echo-context"]).model("big", "1", "big");
    let repository = repository.plugin(components::build("tensor-600k"));
    let server = Server::builder().repository(&repository).start();
    assert_eq!(server.post("/predict/good", "", "").expect(200).text(), "ok");
    assert_eq!(server.post("/predict/big", "", "x").expect(200).text(), "ok");
    let every_byte: Vec<u8> = (0..=255).cycle().take(3_000_001).collect();
    let answer = server.post("/predict/echo-context/1", "application/octet-stream", every_byte.clone());
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    assert!(answer.expect(200).body == every_byte, "the bytes came back changed");
}

#[test]
fn a_plugin_with_a_preprocessor_alone_answers_in_the_protocols_json() {
    let repository =
        Repository::new().model("logging", "1", "digits").plugin(components::build("log-newlines"));
    let server = Server::builder().repository(&repository).start();
    let body = server.post("/predict/logging", "", "x").expect(200).json();
    assert_eq!(body["outputs"][0]["name"], "probabilities");
    assert_eq!(body["outputs"][0]["shape"], json!([1, 10]));
}
