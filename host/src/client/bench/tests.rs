//! The load generator against a server in this process.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http_body_util::Full;
use serde_json::Value;

use super::super::testing::{TestServer, refused_host, respond};
use super::args::tests::parse;
use super::*;

/// Runs the load generator against `server`, without an interrupt.
fn load(server: &TestServer, line: &[&str]) -> Result<Report, ClientError> {
    let url = server.host().to_string();
    bench(&parse(&[&["--url", &url], line].concat()).unwrap(), &Arc::new(AtomicBool::new(false)))
}

fn json(report: &Report) -> Value {
    serde_json::to_value(report).unwrap()
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value}"))
}

/// Answers at once, but for the request number `at`, at which the whole server stands still.
fn stalling_server(at: u64, stall: Duration) -> TestServer {
    let requests = AtomicU64::new(0);
    TestServer::start(move |_| {
        if requests.fetch_add(1, Ordering::Relaxed) == at {
            std::thread::sleep(stall);
        }
        async { respond(200, "ok") }
    })
}

#[test]
fn requests_are_counted_exactly_in_every_mode() {
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    let server = TestServer::start(move |request| {
        counter.fetch_add(1, Ordering::Relaxed);
        async move { respond(200, vec![b'x'; request.body().len() * 2]) }
    });
    let common =
        ["--path", "/", "--method", "POST", "--body", "Cargo.toml", "--requests", "200", "--warmup", "0s"];
    let modes: [&[&str]; 6] = [
        &["--concurrency", "1"],
        &["--concurrency", "7", "--threads", "2"],
        &["--concurrency", "7", "--http2", "--connections", "2", "--threads", "2"],
        &["--rate", "2000"],
        &["--rate", "2000", "--arrival", "poisson", "--concurrency", "3", "--threads", "3"],
        &["--rate", "2000", "--http2"],
    ];
    for mode in modes {
        let before = seen.load(Ordering::Relaxed);
        let report = load(&server, &[&common[..], mode].concat()).unwrap();
        let measured = &report.rows[0].measured;
        assert_eq!((measured.requests, measured.succeeded, measured.failed), (200, 200, 0), "{mode:?}");
        // The probe is one more.
        assert_eq!(seen.load(Ordering::Relaxed) - before, 201, "{mode:?}");
        let ratio = measured.received_bytes_per_s / measured.sent_bytes_per_s;
        assert!((1.99..2.01).contains(&ratio), "{mode:?}: {ratio}");
        assert!(measured.throughput_per_s > 0.0 && measured.generator.reconnects == 0, "{mode:?}");
        assert_eq!(exit_text(&report, false), exit_text_of(ExitCode::SUCCESS));
    }
}

#[test]
fn a_time_limit_and_a_warm_up_are_kept_and_each_concurrency_is_a_row() {
    let server = TestServer::start(|_| async { respond(200, "ok") });
    let line = ["--path", "/", "--duration", "300ms", "--warmup", "50ms", "--concurrency", "1,4"];
    let report = load(&server, &line).unwrap();
    assert_eq!(report.rows.iter().map(|row| row.concurrency).collect::<Vec<_>>(), [1, 4]);
    assert!(report.rows.iter().all(|row| row.measured.succeeded > 0 && row.measured.elapsed_s > 0.0));
    let open =
        load(&server, &["--path", "/", "--rate", "1000", "--duration", "100ms", "--warmup", "50ms"]).unwrap();
    // The moments from 50 to 150 ms, 1 ms apart.
    assert_eq!(open.rows[0].measured.requests, 100);
}

#[test]
fn an_open_loop_counts_a_stall_for_all_that_were_due_in_it() {
    // Of 100 requests 5 ms apart, one stops the server for 400 ms: about 80 are due meanwhile, and
    // 60 of them wait for over 100 ms. Only lower bounds are asserted: a busy machine adds delay.
    let server = stalling_server(20, Duration::from_millis(400));
    let args = ["--path", "/", "--rate", "200", "--requests", "100", "--warmup", "0s", "--concurrency", "2"];
    let url = server.host().to_string();
    let plan = plan::make(&parse(&[&["--url", &url], &args[..]].concat()).unwrap()).unwrap();
    let rows = session::measure(&plan, &Arc::new(AtomicBool::new(false))).unwrap();
    let tally = &rows[0].measured.tally;
    let slow = |histogram: &hdrhistogram::Histogram<u64>| histogram.count_between(100_000_000, u64::MAX / 2);
    assert_eq!(tally.response.len(), 100);
    assert!(slow(&tally.response) >= 50, "{}", slow(&tally.response));
    assert!(slow(&tally.service) < slow(&tally.response), "{}", slow(&tally.service));
    assert!(tally.response.value_at_quantile(0.99) >= 300_000_000);
    // Those that found both connections busy were counted as such.
    assert!(tally.wait.len() >= 50, "{}", tally.wait.len());
}

#[test]
fn a_closed_loop_says_that_it_does_not_see_what_a_stall_holds_back() {
    let server = stalling_server(20, Duration::from_millis(400));
    let report = load(&server, &["--path", "/", "--requests", "100", "--warmup", "0s"]).unwrap();
    let measured = &report.rows[0].measured;
    assert!(measured.response_time.is_none() && measured.service_time.max_us >= 400_000.0);
    let shown = report::show(&report);
    assert!(shown.contains("service times") && shown.contains("coordinated omission"), "{shown}");
    assert!(shown.contains("p99.9 of 100 requests is their maximum"), "{shown}");
}

#[test]
fn what_could_not_be_sent_in_time_is_an_error_not_an_omission() {
    let server = stalling_server(5, Duration::from_millis(600));
    let line =
        ["--rate", "100", "--requests", "50", "--warmup", "0s", "--concurrency", "1", "--timeout", "100ms"];
    let report = load(&server, &[&["--path", "/"], &line[..]].concat()).unwrap();
    let measured = &report.rows[0].measured;
    assert_eq!(measured.requests, 50);
    assert_eq!(measured.requests, measured.succeeded + measured.failed);
    assert!(measured.errors.contains_key("timeout"), "{:?}", measured.errors);
    assert_eq!(exit_text(&report, false), exit_text_of(ExitCode::from(1)));
}

#[test]
fn errors_are_counted_by_kind_and_the_first_is_shown() {
    let requests = AtomicU64::new(0);
    let server = TestServer::start(move |_| {
        let number = requests.fetch_add(1, Ordering::Relaxed);
        async move {
            match number % 4 {
                1 => respond(503, r#"{"error":"queue of model 'm' is full\u001b[2J"}"#),
                3 => respond(404, "gone"),
                _ => respond(200, "ok"),
            }
        }
    });
    let report = load(&server, &["--path", "/", "--requests", "40", "--warmup", "0s"]).unwrap();
    let value = json(&report);
    let measured = &value["rows"][0]["measured"];
    assert_eq!((count(&measured["succeeded"]), count(&measured["failed"])), (20, 20));
    assert_eq!(
        (count(&measured["errors"]["status 503"]), count(&measured["errors"]["status 404"])),
        (10, 10)
    );
    let shown = report::show(&report);
    assert!(shown.contains("first error: queue of model 'm' is full"), "{shown}");
    assert!(shown.contains("20 of 40 requests failed (10 status 404, 10 status 503)"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown}");
    assert_eq!(exit_text(&report, false), exit_text_of(ExitCode::from(1)));
    assert_eq!(exit_text(&report, true), exit_text_of(ExitCode::SUCCESS));
}

#[test]
fn a_refused_probe_and_an_absent_host_end_the_run_before_any_load() {
    let server = TestServer::start(|_| async { respond(404, r#"{"error":"no route '/x'"}"#) });
    let error = load(&server, &["--path", "/x"]).unwrap_err();
    assert_eq!(error.to_string(), "no route '/x' (HTTP 404 Not Found)");
    let url = refused_host().to_string();
    for line in [["--path", "/"], ["--infer", "m"]] {
        let args = parse(&[&["--url", &url], &line[..]].concat()).unwrap();
        assert_eq!(format!("{:?}", run_bench(args)), exit_text_of(ExitCode::from(2)));
    }
}

#[test]
fn a_host_that_closes_each_connection_costs_reconnects_not_requests() {
    let server = TestServer::start(|_| async {
        let builder = http::Response::builder().header("connection", "close");
        builder.body(Full::new("ok".into())).unwrap()
    });
    let report = load(&server, &["--path", "/", "--requests", "30", "--warmup", "0s"]).unwrap();
    let measured = &report.rows[0].measured;
    assert_eq!((measured.succeeded, measured.failed), (30, 0), "{:?}", measured.first_error);
    assert_eq!(measured.generator.reconnects, 29);
}

#[test]
fn a_baseline_takes_turns_and_gives_ratios() {
    let server = TestServer::start(|request| async move {
        if request.uri().path() == "/slow" {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        respond(200, "ok")
    });
    let line = ["--path", "/slow", "--baseline", "/fast", "--requests", "55", "--warmup", "0s"];
    let report = load(&server, &line).unwrap();
    let row = &report.rows[0];
    let (baseline, ratio) = (row.baseline.as_ref().unwrap(), row.ratio.as_ref().unwrap());
    assert_eq!((row.measured.succeeded, baseline.succeeded), (55, 55));
    assert_eq!(ratio.throughput_by_turn.len(), 10);
    let throughput = row.measured.throughput_per_s / baseline.throughput_per_s;
    assert!((ratio.throughput.unwrap() - throughput).abs() < 1e-9);
    assert!(ratio.p50.is_some());
    let shown = report::show(&report);
    assert!(shown.contains("over 10 pairs of turns") && shown.contains("ratio"), "{shown}");
}

#[test]
fn generated_tensors_are_sent_and_the_settings_are_in_the_json_but_no_secrets() {
    let server = TestServer::start(|request| async move {
        let is_infer = request.uri().path().ends_with("/infer");
        match (is_infer, request.headers().get("inference-header-content-length")) {
            (false, _) => {
                respond(200, r#"{"name":"m","inputs":[{"name":"x","datatype":"INT64","shape":[-1,4]}]}"#)
            }
            (true, Some(_)) => respond(200, r#"{"outputs":[]}"#),
            (true, None) => respond(400, r#"{"error":"no tensors"}"#),
        }
    });
    let line = [
        "--infer",
        "m",
        "--batch",
        "2",
        "--requests",
        "10",
        "--warmup",
        "0s",
        "--header",
        "Authorization: geheim",
    ];
    let value = json(&load(&server, &line).unwrap());
    let settings = &value["settings"];
    assert_eq!(settings["tensors"][0]["shape"], serde_json::json!([2, 4]));
    assert_eq!((&settings["mode"], &settings["encoding"]), (&"closed".into(), &"binary".into()));
    assert!(settings["request"]["headers"].as_array().unwrap().contains(&"authorization".into()));
    assert!(!value.to_string().contains("geheim"));
    assert_eq!(count(&value["rows"][0]["measured"]["succeeded"]), 10);
}

#[test]
fn a_stop_ends_the_run_early_and_is_told() {
    let server = TestServer::start(|_| async { respond(200, "ok") });
    let url = server.host().to_string();
    for mode in [&[][..], &["--rate", "100"]] {
        let line =
            [&["--url", &url, "--path", "/", "--duration", "1h", "--concurrency", "2,4"], mode].concat();
        let stop = Arc::new(AtomicBool::new(false));
        let stopper = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(200));
                stop.store(true, Ordering::Relaxed);
            })
        };
        let report = bench(&parse(&line).unwrap(), &stop).unwrap();
        stopper.join().unwrap();
        assert!(report.interrupted && report.rows.len() == 1);
        assert_eq!(exit_text(&report, true), exit_text_of(ExitCode::from(1)));
        assert!(report::show(&report).contains("ended early"));
    }
}

#[test]
fn histograms_are_written_for_each_row() {
    let server = TestServer::start(|_| async { respond(200, "ok") });
    let folder = std::env::temp_dir().join(format!("nuke-bench-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("h.hgrm");
    let line = ["--path", "/", "--requests", "20", "--warmup", "0s", "--concurrency", "1,2", "--histogram"];
    load(&server, &[&line[..], &[file.to_str().unwrap()]].concat()).unwrap();
    let mut names: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["h-c1.hgrm", "h-c2.hgrm"]);
    let text = std::fs::read_to_string(folder.join("h-c2.hgrm")).unwrap();
    assert!(text.contains("Total count    =           20"), "{text}");
    std::fs::remove_dir_all(&folder).unwrap();
    let nowhere = folder.join("absent").join("h.hgrm");
    let error = load(&server, &[&line[..], &[nowhere.to_str().unwrap()]].concat()).unwrap_err();
    assert!(error.to_string().starts_with("cannot write '"), "{error}");
}

fn exit_text(report: &Report, allow_errors: bool) -> String {
    exit_text_of(exit_code(report, allow_errors))
}

fn exit_text_of(code: ExitCode) -> String {
    format!("{code:?}")
}
