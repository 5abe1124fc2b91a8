//! Clients that are too heavy to be among the packages of all tests: `perf_analyzer`, which takes its server's part of the
//! time from the statistics, and KServe's SDK. Each runs where a variable names it.

use std::path::PathBuf;
use std::process::Command;

use nuke_tests::{Server, root};

use super::models;

/// Names the `perf_analyzer` that is to be used, as its package installs it.
const PERF_ANALYZER: &str = "NUKE_TEST_PERF_ANALYZER";

#[test]
fn perf_analyzer_is_told_where_the_time_went() {
    let Some(program) = std::env::var_os(PERF_ANALYZER).map(PathBuf::from) else {
        eprintln!(
            "SKIPPED: {PERF_ANALYZER} names no perf_analyzer (pip install perf-analyzer, for glibc 2.38)"
        );
        return;
    };
    let server = Server::builder().repository(&models()).start();
    let output = Command::new(program)
        .args(["-m", "tiny", "-u", &server.address().to_string(), "--shape", "x:1,16"])
        .args(["--concurrency-range", "4", "--measurement-mode", "count_windows"])
        .args(["--measurement-request-count", "500", "--stability-percentage", "999", "--max-trials", "3"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let (_, told) = text.split_once("Server:").unwrap_or_else(|| panic!("nothing of the server: {text}"));
    let number = |before: &str| -> u64 {
        let rest = told.split_once(before).unwrap_or_else(|| panic!("no '{before}' in {told}")).1;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_else(|_| panic!("no number behind '{before}': {told}"))
    };
    assert!(number("Inference count: ") >= 500, "{told}");
    assert!(number("Successful request count: ") >= 500, "{told}");
    assert!((1..=number("Inference count: ")).contains(&number("Execution count: ")), "{told}");
    assert!(number("Avg request latency: ") > 0 && number("compute infer ") > 0, "{told}");
    for part in ["overhead ", "queue ", "compute input ", "compute output "] {
        let _told = number(part);
    }
}

/// Names the Python of an environment that has KServe's SDK.
const KSERVE_PYTHON: &str = "NUKE_TEST_KSERVE_PYTHON";

#[test]
fn the_client_of_kserves_sdk_gets_what_it_asks_for() {
    let Some(python) = std::env::var_os(KSERVE_PYTHON).map(PathBuf::from) else {
        eprintln!(
            "SKIPPED: {KSERVE_PYTHON} names no Python with the kserve package (pip install kserve==0.21.0)"
        );
        return;
    };
    let server = Server::builder().repository(&models()).start();
    let output = Command::new(python)
        .arg(root().join("tests/python/kserve_client.py"))
        .arg(server.url())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("ok"), "{text}\n{told}");
}
