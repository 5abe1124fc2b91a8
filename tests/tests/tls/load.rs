//! `h2load`: many streams on many connections, over TLS and without, and not one that fails.

use serde_json::json;

use nuke_tests::program;

use super::*;

const REQUESTS: &str = "2000";

/// Runs h2load with eight connections of ten streams, and holds what it says against what was asked.
fn load(program: &Path, spoken: &str, arguments: &[&str]) {
    let output =
        Command::new(program).args(["-n", REQUESTS, "-c", "8", "-m", "10"]).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{arguments:?}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        format!("Application protocol: {spoken}"),
        format!("{REQUESTS} done, {REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout"),
        format!("status codes: {REQUESTS} 2xx, 0 3xx, 0 4xx, 0 5xx"),
    ] {
        assert!(text.contains(&line), "{arguments:?}: no '{line}' in {text}");
    }
}

#[test]
fn h2load_sees_no_request_fail() {
    let Some(program) = program("NUKE_TEST_H2LOAD") else { return };
    // A machine that stands still for a moment lets none of them down.
    let repository = vectors().model_yaml("queue: {timeout: 60s}\n");
    let server = builder(&repository).set("log.access", "false").start();
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body.json");
    let numbers = vec![0.5; 100];
    let request =
        json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [numbers.len()], "data": numbers}]});
    std::fs::write(&body, request.to_string()).unwrap();
    let body = body.display().to_string();
    let (plain, secure) = (server.url(), url(server.also_at("https"), ""));
    for (base, spoken, more) in [
        (&plain, "h2c", &[][..]),
        (&secure, "h2", &[]),
        (&plain, "http/1.1", &["--h1"]),
        (&secure, "http/1.1", &["--alpn-list=http/1.1"]),
    ] {
        load(&program, spoken, &[more, &[format!("{base}/v2/health/live").as_str()]].concat());
        let infer = format!("{base}/v2/models/vector/infer");
        let posted = ["-d", &body, "-H", "content-type: application/json", &infer];
        load(&program, spoken, &[more, &posted].concat());
    }
    let answered = server.metrics().sum("nuke_requests_total", &[("outcome", "ok")]);
    assert!((answered - 8000.0).abs() < 0.5, "{answered} requests were answered, 8000 were sent");
}
