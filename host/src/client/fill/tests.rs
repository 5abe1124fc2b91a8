//! Runs against a host of the test's own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicU32;

use clap::Parser as _;
use http::HeaderValue;

use super::super::testing::{TestServer, refused_host, respond};
use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: FillArgs,
}

fn parse(line: &[&str]) -> Result<FillArgs, clap::Error> {
    Line::try_parse_from([&["precompute"], line].concat()).map(|line| line.args)
}

fn run(url: &str, folder: &Path, more: &[&str]) -> Result<(Report, Option<ClientError>), ClientError> {
    let folder = folder.to_str().unwrap();
    let args = parse(&[&["--model", "m", "--url", url, folder], more].concat()).unwrap();
    fill(&args, Arc::new(AtomicBool::new(false)))
}

fn folder(files: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..files {
        fs::write(folder.path().join(format!("{number:03}.txt")), format!("text {number}")).unwrap();
    }
    folder
}

fn answer(status: u16, cache_status: &'static str) -> http::Response<http_body_util::Full<bytes::Bytes>> {
    let mut response = respond(status, r#"{"error":"no"}"#);
    if !cache_status.is_empty() {
        response.headers_mut().insert("cache-status", HeaderValue::from_static(cache_status));
    }
    response
}

#[test]
fn every_file_is_sent_once_and_told_by_what_the_cache_says() {
    let seen = Arc::new(Mutex::new(BTreeMap::<Vec<u8>, u32>::new()));
    let at_server = Arc::clone(&seen);
    let server = TestServer::start(move |request| {
        *at_server.lock().unwrap().entry(request.body().to_vec()).or_default() += 1;
        let is_plain = request.uri() == "/predict/m" && !request.headers().contains_key("cache-control");
        let is_text = request.headers()["content-type"] == "text/plain; charset=utf-8";
        let body = request.into_body();
        async move {
            match body.as_ref() {
                _ if !is_plain || !is_text => answer(400, ""),
                b"text 3" => answer(400, "nuke; fwd=miss"),
                b"text 4" => answer(200, "nuke; fwd=bypass"),
                b"text 5" | b"text 6" => answer(200, "nuke; hit; ttl=3"),
                _ => answer(200, "nuke; fwd=miss; stored"),
            }
        }
    });
    let (folder, url) = (folder(40), server.host().to_string());
    let (report, end) = run(&url, folder.path(), &["--concurrency", "7"]).unwrap();
    assert!(end.is_none() && !report.interrupted, "{end:?}");
    let counts = &report.counts;
    assert_eq!((counts.hits, counts.stored, counts.failed), (2, 36, 2), "{report:?}");
    let mut reasons: Vec<_> = counts.failures.iter().map(|failure| failure.reason.as_str()).collect();
    reasons.sort_unstable();
    assert!(reasons[0].contains("max_entry") && reasons[1].contains("HTTP 400"), "{reasons:?}");
    let seen = seen.lock().unwrap();
    assert!(seen.len() == 40 && seen.values().all(|&times| times == 1), "{seen:?}");
    assert!(show(&report).contains("36 stored, 2 were there, 2 failed"));
    let json: serde_json::Value = serde_json::from_str(&json(&report)).unwrap();
    assert_eq!((&json["stored"], &json["failures"][1]["file"].is_string()), (&36.into(), &true));
}

#[test]
fn a_busy_host_is_asked_again_and_not_for_ever() {
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let server = TestServer::start(move |_| {
        let number = counter.fetch_add(1, Ordering::Relaxed);
        async move {
            let mut response = answer(if number.is_multiple_of(2) { 429 } else { 503 }, "");
            response.headers_mut().insert("retry-after", HeaderValue::from(u64::from(number > 2) * 1000));
            if number == 2 { answer(200, "nuke; fwd=miss; stored") } else { response }
        }
    });
    let (folder, url) = (folder(2), server.host().to_string());
    let (report, _) = run(&url, folder.path(), &["--concurrency", "1"]).unwrap();
    // The second file is told to come back after more than the minute that it has.
    assert_eq!((report.counts.stored, report.counts.failed, report.retried), (1, 1, 2), "{report:?}");
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

#[test]
fn what_all_files_would_meet_ends_the_run_at_the_first() {
    let asked = Arc::new(AtomicU32::new(0));
    let cases = [
        (200, "", "cache.ttl"),
        (200, "nuke; fwd=bypass; detail=anonymous", "credentials"),
        (404, "", "HTTP 404"),
        (401, "", "HTTP 401"),
    ];
    for (status, cache_status, expected) in cases {
        let counter = Arc::clone(&asked);
        let server = TestServer::start(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            async move { answer(status, cache_status) }
        });
        let (folder, before) = (folder(9), asked.load(Ordering::Relaxed));
        let (report, end) = run(&server.host().to_string(), folder.path(), &[]).unwrap();
        let end = end.unwrap().to_string();
        assert!(end.contains(expected), "{end}");
        assert_eq!((asked.load(Ordering::Relaxed) - before, report.counts.failed), (1, 1));
    }
    let (_, end) = run(&refused_host().to_string(), folder(3).path(), &[]).unwrap();
    assert!(matches!(end, Some(ClientError::Unreachable { .. })), "{end:?}");
}

#[test]
fn bodies_of_infer_and_renewal() {
    let server = TestServer::start(|request| async move {
        let (head, body) = request.into_parts();
        let length = head.headers.get("inference-header-content-length");
        let is_renewed = head.headers["cache-control"] == "no-cache";
        let is_right = head.uri == "/v2/models/m/versions/2/infer" && is_renewed;
        let fits = body.ends_with(b"\x00\xff") == length.is_some();
        if is_right && fits { answer(200, "nuke; fwd=request; stored") } else { answer(400, "") }
    });
    let folder = tempfile::tempdir().unwrap();
    let json = r#"{"inputs":[{"name":"x","datatype":"UINT8","shape":[2],"data":[1,2]}]}"#;
    let mut binary =
        r#"{"inputs":[{"name":"x","datatype":"UINT8","shape":[2],"parameters":{"binary_data_size":2}}]}"#
            .as_bytes()
            .to_vec();
    binary.extend([0, 0xff]);
    fs::write(folder.path().join("a.json"), json).unwrap();
    fs::write(folder.path().join("b"), &binary).unwrap();
    fs::write(folder.path().join("c.png"), "no request").unwrap();
    let more = ["--infer", "--force", "--version", "2"];
    let (report, _) = run(&server.host().to_string(), folder.path(), &more).unwrap();
    assert_eq!((report.counts.stored, report.counts.failed), (2, 1), "{report:?}");
    assert!(report.counts.failures[0].reason.contains("--infer"));
}

#[test]
fn an_interrupt_ends_the_run_and_is_told() {
    let stop = Arc::new(AtomicBool::new(false));
    let at_server = Arc::clone(&stop);
    let server = TestServer::start(move |_| {
        at_server.store(true, Ordering::Relaxed);
        async { answer(200, "nuke; fwd=miss; stored") }
    });
    let (folder, url) = (folder(50), server.host().to_string());
    let args = parse(&["--model", "m", "--url", &url, folder.path().to_str().unwrap()]).unwrap();
    let (report, end) = fill(&args, stop).unwrap();
    assert!(end.is_none() && report.interrupted && report.counts.stored == 1, "{report:?}");
    assert!(show(&report).contains("the next run"));
}

#[test]
fn hostile_arguments_are_refused() {
    for wrong in [
        &["--model", "m"][..],
        &["f"],
        &["--model", "m", "f", "--concurrency", "0"],
        &["--model", "m", "f", "--concurrency", "100000"],
        &["--model", "m", "f", "--infer", "--param", "k=1"],
        &["--model", "m", "f", "--timeout", "0s"],
        &["--model", "m", "f", "--retry-for", "-1s"],
    ] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
    let refused = |line: &[&str]| fill(&parse(line).unwrap(), Arc::default()).unwrap_err().to_string();
    assert!(refused(&["--model", "", "f"]).contains("cannot be empty"));
    assert!(refused(&["--model", "m", "--version", "", "f"]).contains("cannot be empty"));
    let empty = tempfile::tempdir().unwrap();
    assert!(refused(&["--model", "m", empty.path().to_str().unwrap()]).contains("no files"));
    let (report, end) = run("http://127.0.0.1:1", Path::new("no/such\u{1b}"), &[]).unwrap();
    assert!(end.is_none() && report.counts.failures[0].file == "no/such\\u{1b}", "{report:?}");
}
