//! `/metrics` as a scraper reads it: the form to the letter, and numbers that are true.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod openmetrics;

use std::collections::BTreeMap;

use nuke_tests::{Repository, Server, components, eventually, slow_request};
use openmetrics::{Family, parse};
use serde_json::json;

type Families = BTreeMap<String, Family>;

fn scrape(server: &Server) -> Families {
    let answer = server.get("/metrics").expect(200);
    assert_eq!(
        answer.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let text = String::from_utf8(answer.body).expect("UTF-8");
    parse(&text).unwrap_or_else(|error| panic!("{error}\nin:\n{text}"))
}

/// The sum of a metric's samples of that full name that have all these labels.
#[track_caller]
fn sum(families: &Families, family: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let family = families.get(family).unwrap_or_else(|| panic!("no metric {family}: {:?}", families.keys()));
    let fits = |labels_there: &BTreeMap<String, String>| {
        labels.iter().all(|(label, value)| labels_there.get(*label).is_some_and(|there| there == value))
    };
    family
        .samples
        .iter()
        .filter(|sample| sample.name == name && fits(&sample.labels))
        .map(|sample| sample.value)
        .sum()
}

fn repository() -> Repository {
    Repository::new()
        .model("good", "1", "digits")
        .plugin(components::build("good"))
        .model("tiny", "1", "tiny")
        .model("tiny", "2", "tiny")
        .model_yaml("versions: all\n")
        .model("broken", "1", "truncated")
}

#[test]
fn the_form_is_openmetrics_with_and_without_traffic() {
    let repository = repository();
    let server = Server::builder().repository(&repository).start();
    let first = scrape(&server);
    for (name, kind, unit) in [
        ("nuke_requests", "counter", ""),
        ("nuke_request_duration_seconds", "histogram", "seconds"),
        ("nuke_plugin_cpu_seconds", "counter", "seconds"),
        ("nuke_requests_in_flight", "gauge", ""),
        ("nuke_http_responses", "counter", ""),
        ("nuke_grpc_responses", "counter", ""),
        ("nuke_http_connections", "gauge", ""),
        ("nuke_model_state", "gauge", ""),
        ("nuke_queue_requests", "gauge", ""),
        ("nuke_workers", "gauge", ""),
        ("nuke_workers_busy", "gauge", ""),
        ("nuke_plugin_instances", "gauge", ""),
        ("nuke_plugin_instances_created", "counter", ""),
        ("nuke_plugin_instances_broken", "counter", ""),
    ] {
        let family = first.get(name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!((family.kind.as_str(), family.unit.as_str()), (kind, unit), "{name}");
    }
    assert!(first.keys().all(|name| name.starts_with("nuke_")), "{:?}", first.keys());
    for path in ["/predict/good?a=%22%0a", "/predict/tiny", "/predict/nobody", "/v2/models/tiny/infer"] {
        server.post(path, "text/plain", "x");
    }
    scrape(&server);
}

/// Ten right and two wrong requests to `tiny`, five to `good`, two to models that do not serve.
fn some_of_everything(server: &Server) {
    let request =
        json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": vec![1; 16]}]});
    for _ in 0..7 {
        server.post_json("/v2/models/tiny/infer", &request).expect(200);
    }
    for _ in 0..3 {
        server.post_json("/v2/models/tiny/versions/1/infer", &request).expect(200);
    }
    for _ in 0..2 {
        server.post_json("/v2/models/tiny/infer", &json!({})).expect(400);
    }
    for _ in 0..5 {
        server.post("/predict/good", "image/png", "x").expect(200);
    }
    server.post_json("/v2/models/nobody/infer", &request).expect(404);
    server.post_json("/v2/models/broken/infer", &request).expect(503);
}

#[test]
fn requests_are_counted_by_outcome_and_by_stage() {
    let repository = repository();
    let server = Server::builder().repository(&repository).start();
    some_of_everything(&server);
    let metrics = scrape(&server);
    let requests = |labels: &[(&str, &str)]| sum(&metrics, "nuke_requests", "nuke_requests_total", labels);
    assert_eq!(
        requests(&[("model", "tiny"), ("version", "2"), ("endpoint", "infer"), ("outcome", "ok")]),
        7.0
    );
    assert_eq!(requests(&[("model", "tiny"), ("version", "1"), ("outcome", "ok")]), 3.0);
    assert_eq!(requests(&[("model", "tiny"), ("outcome", "invalid_argument")]), 2.0);
    assert_eq!(requests(&[("model", "good"), ("endpoint", "predict"), ("outcome", "ok")]), 5.0);
    // A name that a client made up is no label: it would be a new series for each.
    assert_eq!(requests(&[("model", "nobody")]), 0.0);

    let duration = "nuke_request_duration_seconds";
    let count = |model: &str, stage: &str| {
        sum(&metrics, duration, "nuke_request_duration_seconds_count", &[("model", model), ("stage", stage)])
    };
    let seconds = |model: &str, stage: &str| {
        sum(&metrics, duration, "nuke_request_duration_seconds_sum", &[("model", model), ("stage", stage)])
    };
    assert_eq!((count("tiny", "total"), count("tiny", "infer"), count("tiny", "queue")), (12.0, 10.0, 10.0));
    for stage in ["preprocess", "queue", "infer", "postprocess", "total"] {
        assert_eq!(count("good", stage), 5.0, "{stage}");
        assert!(seconds("good", stage) > 0.0, "{stage}");
        assert!(seconds("good", stage) <= seconds("good", "total"), "{stage}");
    }
    assert_eq!(count("tiny", "preprocess"), 0.0);

    let responses = |status: &str| {
        sum(&metrics, "nuke_http_responses", "nuke_http_responses_total", &[("status", status)])
    };
    assert_eq!((responses("400"), responses("404")), (2.0, 1.0));
    // Whoever waited for readiness is in these as well.
    assert!(responses("200") >= 15.0 && responses("503") >= 1.0);

    let cpu = |stage: &str| {
        let labels = [("model", "good"), ("plugin", "plugin.wasm"), ("stage", stage)];
        sum(&metrics, "nuke_plugin_cpu_seconds", "nuke_plugin_cpu_seconds_total", &labels)
    };
    assert!(cpu("preprocess") > 0.0 && cpu("postprocess") > 0.0);
    let states = |state: &str| sum(&metrics, "nuke_model_state", "nuke_model_state", &[("state", state)]);
    assert_eq!((states("ready"), states("failed"), states("loading")), (3.0, 1.0, 0.0));
    assert_eq!(sum(&metrics, "nuke_workers", "nuke_workers", &[("model", "tiny")]), 2.0);
    assert!(sum(&metrics, "nuke_plugin_instances", "nuke_plugin_instances", &[("model", "good")]) >= 1.0);
    assert!(
        sum(&metrics, "nuke_plugin_instances_created", "nuke_plugin_instances_created_total", &[]) >= 1.0
    );
}

#[test]
fn what_is_in_flight_goes_up_and_comes_back_to_0_however_it_ends() {
    let repository = Repository::new()
        .model("slow", "1", "slow")
        .model_yaml("{queue: {timeout: 60s}}")
        .model("tiny", "1", "tiny");
    let server = Server::builder().repository(&repository).start();
    let in_flight =
        || sum(&scrape(&server), "nuke_requests_in_flight", "nuke_requests_in_flight", &[("model", "slow")]);
    let body = |milliseconds: u32| slow_request(milliseconds).to_string();
    let mut running = server.connect();
    // It outlasts all that is looked at while it runs, however busy the machine is.
    running.send_post("/v2/models/slow/infer", body(5000).as_bytes());
    // Else the other one may come first, and this one would wait for it.
    let busy = || sum(&scrape(&server), "nuke_workers_busy", "nuke_workers_busy", &[("model", "slow")]);
    eventually("the first one runs", || busy() == 1.0);
    let mut abandoned = server.connect();
    abandoned.send_post("/v2/models/slow/infer", body(60_000).as_bytes());
    eventually("two are in flight", || in_flight() == 2.0);
    let metrics = scrape(&server);
    assert_eq!(sum(&metrics, "nuke_workers_busy", "nuke_workers_busy", &[("model", "slow")]), 1.0);
    assert_eq!(sum(&metrics, "nuke_queue_requests", "nuke_queue_requests", &[("model", "slow")]), 1.0);
    assert!(sum(&metrics, "nuke_http_connections", "nuke_http_connections", &[]) >= 3.0);
    drop(abandoned);
    eventually("one is in flight", || in_flight() == 1.0);
    assert_eq!(running.read_answer().unwrap().status, 200);
    eventually("none is in flight", || in_flight() == 0.0);
    drop(running);
    let mut gone = server.connect();
    gone.send(b"POST /v2/models/slow/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").unwrap();
    drop(gone);
    server.post("/v2/models/slow/infer", "application/json", "nonsense").expect(400);
    eventually("none is in flight", || in_flight() == 0.0);
    eventually("only this client is connected", || {
        sum(&scrape(&server), "nuke_http_connections", "nuke_http_connections", &[]) == 1.0
    });
}

#[test]
fn the_reader_of_this_test_is_strict() {
    let head = "# HELP a A.\n# TYPE a counter\n";
    assert!(parse(&format!("{head}a_total{{x=\"1\",y=\"\\\"\\n\"}} 2\n# EOF\n")).is_ok());
    for (wrong, why) in [
        (format!("{head}a_total 1\n"), "EOF"),
        (format!("{head}a 1\n# EOF\n"), "no sample of a counter"),
        (format!("{head}a_total -1\n# EOF\n"), "no sample of a counter"),
        (format!("{head}a_total 1\na_total 2\n# EOF\n"), "twice"),
        (format!("{head}a_total{{x=\"1\",x=\"2\"}} 2\n# EOF\n"), "twice"),
        (format!("{head}a_total{{x=\"1}} 2\n# EOF\n"), "does not end"),
        (format!("{head}b_total 1\n# EOF\n"), "another metric"),
        (format!("{head}a_total one\n# EOF\n"), "no number"),
        ("# TYPE a gauge\na 1\n# EOF\n".to_owned(), "HELP"),
        ("# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n# EOF\n".to_owned(), "rise"),
        ("# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n# EOF\n".to_owned(), "+Inf"),
    ] {
        let error = parse(&wrong).expect_err(&wrong);
        assert!(error.contains(why), "{wrong}: {error}");
    }
}
