//! The life of a server: starting, being ready, draining, stopping.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::io::Read as _;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use nuke_tests::{Repository, Server, Signal, components, eventually, root, slow_request, worker_is_busy};

use serde_json::json;

fn slow() -> Repository {
    Repository::new()
        .model("slow", "1", "slow")
        .model_yaml("{queue: {timeout: 60s}}")
        .model("tiny", "1", "tiny")
}

fn says(logs: &[String], message: &str) -> bool {
    logs.iter().any(|line| line.contains(message))
}

/// A repository whose loading takes as long as `plugins.time`: the plugin's warm-up never returns.
fn slow_to_load() -> Repository {
    Repository::new()
        .model("looping", "1", "digits")
        .plugin(components::build("loop-forever"))
        .bundle_yaml("plugin: plugin.wasm\nwarmup: [sample]\n")
        .file("sample", "x")
        .model("tiny", "1", "tiny")
}

#[test]
fn while_models_load_the_server_is_live_and_not_ready() {
    let repository = slow_to_load();
    let server =
        Server::builder().repository(&repository).set("plugins.time", "10s").without_waiting().start();
    // Loading cannot be over before ten seconds have passed.
    let ready = server.get("/v2/health/ready");
    assert_eq!((ready.status, ready.json()), (503, json!({"ready": false})));
    assert_eq!(server.get("/v2/health/live").expect(200).json(), json!({"live": true}));
    assert_eq!(server.state("looping", "1").0, "LOADING");
    let early = server.post_json("/v2/models/looping/infer", &json!({}));
    assert_eq!(early.status, 503, "{}", early.text());
    assert!(early.error().contains("looping") && early.error().contains("loaded"), "{}", early.error());
    assert!(early.header("retry-after").is_some());
    assert_eq!(server.get("/v2/models/looping/ready").status, 503);
    // Those that are ready serve meanwhile.
    eventually("tiny is ready", || server.get("/v2/models/tiny/ready").status == 200);
    eventually("the server is ready", || server.get("/v2/health/ready").status == 200);
    let (state, reason) = server.state("looping", "1");
    assert_eq!(state, "UNAVAILABLE");
    assert!(reason.contains("warm-up") && reason.contains("sample"), "{reason}");
    assert_eq!(server.get("/v2/models/tiny/ready").status, 200);
}

#[test]
fn a_bundle_that_fails_does_not_stop_the_others() {
    let repository = Repository::new()
        .model("a-broken", "1", "truncated")
        .model("tiny", "1", "tiny")
        .model("tiny", "2", "empty")
        .model_yaml("versions: all\n")
        .model("z-broken", "1", "wrong-op");
    let server = Server::builder().repository(&repository).start();
    assert_eq!(server.get("/v2/health/ready").status, 200);
    let request =
        json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": vec![1; 16]}]});
    // The latest version failed: the one before answers.
    let answer = server.post_json("/v2/models/tiny/infer", &request).expect(200);
    assert_eq!(answer.header("x-nuke-model-version"), Some("1"));
    let later = server.post_json("/v2/models/tiny/versions/2/infer", &request);
    assert_eq!(later.status, 503, "{}", later.text());
    for (model, version) in [("a-broken", "1"), ("tiny", "2"), ("z-broken", "1")] {
        let (state, reason) = server.state(model, version);
        assert_eq!(state, "UNAVAILABLE");
        let told = |line: &String| line.contains("cannot be served") && line.contains(model);
        eventually(&format!("{model}: {reason}"), || server.logs().iter().any(told));
    }
}

/// Files that might still be written to are waited for, but not for ever, also where nothing else happens.
#[test]
fn readiness_does_not_wait_for_a_long_quiet_time() {
    let repository = Repository::new().model("tiny", "1", "tiny");
    let server = Server::builder()
        .repository(&repository)
        .set("repository.quiet", "1h")
        .set("repository.rescan", "1h")
        .set("repository.watch", "poll")
        .without_waiting()
        .start();
    eventually("the server is ready", || server.get("/v2/health/ready").status == 200);
    assert_ne!(server.state("tiny", "1").0, "ready");
}

#[test]
fn an_empty_repository_is_ready_and_says_so() {
    let server = Server::builder().start();
    assert_eq!(server.get("/v2/health/ready").status, 200);
    assert_eq!(server.get("/v2/models").expect(200).json()["models"], json!([]));
}

#[test]
fn sigterm_lets_requests_in_flight_finish_and_refuses_new_connections() {
    for signal in [Signal::TERM, Signal::INT] {
        let repository = slow();
        // What runs is longer than it takes to see the other one wait, and may take its time.
        let builder = Server::builder().repository(&repository).set("server.drain_timeout", "1h");
        let mut server = builder.start();
        let mut idle = server.connect();
        idle.send(b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        assert_eq!(idle.read_answer().unwrap().status, 200);
        let mut running = server.connect();
        running.send_post("/v2/models/slow/infer", slow_request(5000).to_string().as_bytes());
        worker_is_busy(&server);
        let mut waiting = server.connect();
        waiting.send_post("/v2/models/slow/infer", slow_request(1).to_string().as_bytes());
        eventually("one waits", || server.metrics().sum("nuke_queue_requests", &[]) == 1.0);

        server.signal(signal);
        eventually("new connections are refused", || TcpStream::connect(server.address()).is_err());
        assert_eq!(idle.read_to_end().unwrap(), b"", "a connection without a request is closed");
        for mut connection in [running, waiting] {
            let answer = connection.read_answer().expect("requests in flight are answered").expect(200);
            assert_eq!(answer.header("connection"), Some("close"));
            assert_eq!(connection.read_to_end().unwrap(), b"");
        }
        let exited = server.wait_for_exit();
        assert_eq!(exited.status.code(), Some(0), "{exited}");
        assert!(
            says(&exited.logs, "draining") && says(&exited.logs, "all requests were answered"),
            "{exited}"
        );
    }
}

#[test]
fn requests_sent_ahead_on_a_draining_connection_are_answered_or_closed_but_not_lost_halfway() {
    let repository = slow();
    let mut server = Server::builder().repository(&repository).start();
    let mut connection = server.connect();
    // Longer than it takes to be seen at work.
    let body = slow_request(4000).to_string();
    connection.send_post("/v2/models/slow/infer", body.as_bytes());
    connection.send(b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    worker_is_busy(&server);
    server.signal(Signal::TERM);
    assert_eq!(connection.read_answer().unwrap().status, 200);
    // If the second request is answered at all, readiness has gone.
    if let Ok(ready) = connection.read_answer() {
        assert_eq!(ready.status, 503);
    }
    assert_eq!(server.wait_for_exit().status.code(), Some(0));
}

#[test]
fn with_a_drain_delay_the_host_says_that_it_is_not_ready_before_it_refuses_anybody() {
    let repository = Repository::new().model("digits", "1", "digits");
    let mut server = Server::builder().repository(&repository).set("server.drain_delay", "1h").start();
    server.signal(Signal::TERM);
    eventually("readiness goes", || server.get("/v2/health/ready").status == 503);
    server.get("/v2/health/live").expect(200);
    server.get("/v2/models/digits").expect(200);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().status.code(), Some(130), "told twice");

    let mut server = Server::builder().repository(&repository).set("server.drain_delay", "100ms").start();
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().status.code(), Some(0));
}

#[test]
fn a_request_that_does_not_end_is_given_up_at_the_deadline() {
    let repository = slow();
    let mut server = Server::builder().repository(&repository).set("server.drain_timeout", "700ms").start();
    let mut endless = server.connect();
    // Minutes of work: if this test ends, it was given up.
    endless.send_post("/v2/models/slow/infer", slow_request(600_000).to_string().as_bytes());
    worker_is_busy(&server);
    server.signal(Signal::TERM);
    let exited = server.wait_for_exit();
    assert_eq!(exited.status.code(), Some(0), "{exited}");
    assert!(says(&exited.logs, "still in flight after server.drain_timeout"), "{exited}");
    assert!(endless.read_answer().is_err());
}

#[test]
fn clients_that_send_nothing_more_do_not_hold_up_the_end() {
    let repository = slow();
    let mut server = Server::builder()
        .repository(&repository)
        .set("server.drain_timeout", "1s")
        .set("server.header_timeout", "1h")
        .set("server.idle_timeout", "1h")
        .start();
    let beginnings: [&[u8]; 4] = [
        b"",
        b"PRI * HT",
        b"GET /v2 HTTP/1.1\r\nhost:",
        b"POST /v2/models/tiny/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{",
    ];
    let held: Vec<_> = beginnings
        .into_iter()
        .map(|bytes| {
            let mut connection = server.connect();
            connection.send(bytes).unwrap();
            connection
        })
        .collect();
    // These, and the one that asks.
    eventually("all are connected", || server.metrics().sum("nuke_http_connections", &[]) >= 5.0);
    server.signal(Signal::TERM);
    let exited = server.wait_for_exit();
    assert_eq!(exited.status.code(), Some(0), "{exited}");
    drop(held);
}

#[test]
fn a_second_signal_ends_at_once() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let repository = slow();
        let mut server = Server::builder().repository(&repository).set("server.drain_timeout", "1h").start();
        let mut endless = server.connect();
        endless.send_post("/v2/models/slow/infer", slow_request(600_000).to_string().as_bytes());
        worker_is_busy(&server);
        server.signal(first);
        eventually("draining", || says(&server.logs(), "draining"));
        thread::sleep(Duration::from_millis(100));
        assert!(server.is_running());
        server.signal(second);
        let exited = server.wait_for_exit();
        // As a shell reports a process that was ended by a signal: 128 and its number, or by the signal itself.
        assert!(exited.status.code().is_none_or(|code| code > 128), "{exited}");
        assert!(!says(&exited.logs, "panicked"), "{exited}");
        use std::os::unix::process::ExitStatusExt as _;
        let signal = exited.status.signal();
        assert!(signal.is_none_or(|signal| signal == 15 || signal == 2), "{exited}");
    }
}

#[test]
fn sigterm_while_models_load_is_an_orderly_end() {
    let bundle = root().join("models/image-classifier/1/model.onnx");
    let repository = (0..4)
        .fold(Repository::new(), |repository, number| repository.model(&format!("m{number}"), "1", &bundle));
    for round in 0..12 {
        let server = Server::builder().repository(&repository).without_waiting().start();
        thread::sleep(Duration::from_millis(10 * round));
        let exited = server.terminate();
        assert_eq!(exited.status.code(), Some(0), "round {round}: {exited}");
        assert!(!says(&exited.logs, "panicked"), "{exited}");
    }
    let repository = slow_to_load();
    let mut server =
        Server::builder().repository(&repository).set("plugins.time", "1h").without_waiting().start();
    assert_eq!(server.get("/v2/health/ready").status, 503);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().status.code(), Some(0), "a load that never ends does not hold it up");
}

#[test]
fn closed_standard_error_does_not_end_the_server() {
    let repository = slow();
    let mut child = nuke_tests::nuke()
        .args(["serve", "--http", "127.0.0.1:0", "--log-format", "json", "--models"])
        .arg(repository.models())
        .current_dir(repository.models())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let mut text = String::new();
    let address = loop {
        let mut chunk = [0; 512];
        let count = stderr.read(&mut chunk).unwrap();
        assert!(count > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&chunk[..count]));
        if let Some((_, rest)) = text.split_once("\"address\":\"")
            && let Some((address, _)) = rest.split_once('"')
        {
            break address.to_owned();
        }
    };
    drop(stderr);
    let client = nuke_tests::Client::new(&format!("http://{address}"));
    for _ in 0..50 {
        assert_eq!(client.get("/v2/health/live").status, 200);
    }
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}
