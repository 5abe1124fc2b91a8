//! Which instances live on after a call, and how many there are.

use std::thread;

use nuke_tests::{Metrics, RawConnection, Server, eventually};

use crate::serving;

fn of_moody(metrics: &Metrics, name: &str) -> f64 {
    metrics.sum(name, &[("model", "moody")])
}

fn broken(server: &Server) -> f64 {
    of_moody(&server.metrics(), "nuke_plugin_instances_broken_total")
}

fn in_flight(server: &Server) -> f64 {
    of_moody(&server.metrics(), "nuke_requests_in_flight")
}

/// How many calls with the body "l" have begun to loop.
fn looping(server: &Server) -> usize {
    server.log_lines("plugin").iter().filter(|line| line["message"] == "looping").count()
}

/// Sends `body` to `moody` on a connection of its own, and waits for nothing.
fn send(server: &Server, body: &str) -> RawConnection {
    let mut connection = server.connect();
    connection.send_post("/predict/moody", body.as_bytes());
    connection
}

#[test]
fn an_instance_serves_on_after_an_error_in_order_and_not_after_a_fault() {
    let server = Server::builder()
        .repository(&serving(&["moody"]))
        .set("plugins.instances", "1")
        .set("plugins.time", "400ms")
        .start();
    let call = |body: &str| server.post("/predict/moody", "", body);
    let count = || call("x").expect(200).text();
    assert_eq!([count(), count()], ["0001", "0002"]);
    for fault in ["t", "e", "g", "l"] {
        call(fault).expect(500);
        assert_eq!([count(), count()], ["0001", "0002"], "after '{fault}'");
    }
    let metrics = server.metrics();
    assert_eq!(of_moody(&metrics, "nuke_plugin_instances_broken_total"), 4.0);
    assert_eq!(of_moody(&metrics, "nuke_plugin_instances_created_total"), 5.0);
    assert_eq!(of_moody(&metrics, "nuke_plugin_instances"), 1.0);
    let faults = metrics.sum("nuke_requests_total", &[("model", "moody"), ("outcome", "plugin_fault")]);
    assert_eq!(faults, 4.0);
}

#[test]
fn an_instance_is_replaced_after_its_number_of_calls() {
    let server = Server::builder()
        .repository(&serving(&["counter"]))
        .set("plugins.instances", "1")
        .set("plugins.calls_per_instance", "6")
        .start();
    // A request is two calls: preprocess and postprocess.
    let counts: Vec<String> =
        (0..7).map(|_| server.post("/predict/counter", "", "x").expect(200).text()).collect();
    assert_eq!(counts, ["0001", "0002", "0003", "0001", "0002", "0003", "0001"]);
}

#[test]
fn an_idle_instance_is_dropped() {
    let server = Server::builder().repository(&serving(&["moody"])).set("plugins.idle", "200ms").start();
    server.post("/predict/moody", "", "x").expect(200);
    eventually("no instance is left", || of_moody(&server.metrics(), "nuke_plugin_instances") == 0.0);
    assert_eq!(server.post("/predict/moody", "", "x").expect(200).text(), "0001");
    assert_eq!(broken(&server), 0.0);
}

#[test]
fn a_client_that_goes_away_frees_the_instance() {
    let server = Server::builder()
        .repository(&serving(&["moody"]))
        .set("plugins.instances", "1")
        // Only the client's leaving can end the call while this test runs.
        .set("plugins.time", "1h")
        .set("server.request_timeout", "1h")
        .start();
    for round in 1..=3 {
        let connection = send(&server, "l");
        eventually("the call has begun", || looping(&server) == round);
        drop(connection);
        eventually("the instance has been dropped", || broken(&server) == round as f64);
        assert_eq!(server.post("/predict/moody", "", "x").expect(200).text(), "0001");
    }
}

#[test]
fn a_request_that_times_out_frees_the_instance() {
    let server = Server::builder()
        .repository(&serving(&["moody"]))
        .set("plugins.instances", "1")
        .set("plugins.time", "1h")
        .set("server.request_timeout", "300ms")
        .start();
    let answer = server.post("/predict/moody", "", "l").expect(504);
    assert!(answer.error().contains("moody") && answer.error().contains("preprocess"), "{}", answer.error());
    eventually("the instance has been dropped", || broken(&server) == 1.0);
    assert_eq!(server.post("/predict/moody", "", "x").expect(200).text(), "0001");
}

#[test]
fn no_more_instances_run_than_are_allowed() {
    let server = Server::builder()
        .repository(&serving(&["moody"]))
        .set("plugins.instances", "2")
        // All of them take long enough for their instances to be seen.
        .set("plugins.time", "1s")
        .start();
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let mut connection = send(&server, "l");
            thread::spawn(move || connection.read_answer())
        })
        .collect();
    let mut most: f64 = 0.0;
    eventually("all calls are answered", || {
        most = most.max(of_moody(&server.metrics(), "nuke_plugin_instances"));
        callers.iter().all(|caller| caller.is_finished())
    });
    for caller in callers {
        let message = caller.join().unwrap().unwrap().expect(500).error();
        assert!(message.contains("plugins.time"), "{message}");
    }
    assert!((1.0..=2.0).contains(&most), "{most} instances");
    assert_eq!(broken(&server), 8.0);
    assert_eq!(server.post("/predict/moody", "", "x").expect(200).text(), "0001");
}

#[test]
fn calls_that_wait_are_bounded_and_the_next_is_refused_at_once() {
    let server = Server::builder()
        .repository(&serving(&["moody"]))
        .set("plugins.instances", "1")
        .set("plugins.time", "1h")
        .set("server.request_timeout", "1h")
        .start();
    let running = send(&server, "l");
    eventually("the call has begun", || looping(&server) == 1);
    // More than may wait: some are refused while none has been served.
    let mut waiting: Vec<RawConnection> = (0..300).map(|_| send(&server, "l")).collect();
    let refused = || server.metrics().sum("nuke_requests_total", &[("outcome", "resource_exhausted")]);
    eventually("some are refused", || refused() > 0.0 && refused() + in_flight(&server) == 301.0);
    let answer = server.post("/predict/moody", "", "x").expect(429);
    assert!(answer.error().contains("plugin 'plugin.wasm'"), "{}", answer.error());
    assert_eq!(answer.header("retry-after"), Some("1"));
    waiting.clear();
    drop(running);
    eventually("nothing is in flight", || in_flight(&server) == 0.0);
    assert_eq!(server.post("/predict/moody", "", "x").expect(200).text(), "0001");
}
