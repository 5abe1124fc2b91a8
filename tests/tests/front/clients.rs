//! Clients with programs of their own: `perf_analyzer`, which takes its server's part of the time from the statistics,
//! and KServe's SDK.

use std::process::Command;

use nuke_tests::{Server, program, root};

use super::models;

/// Measures `tiny` with perf_analyzer, and returns what it says and its table, a name and a number each.
fn analyzed(server: &Server, protocol: &str) -> Option<(String, Vec<(String, f64)>)> {
    let program = program("NUKE_TEST_PERF_ANALYZER")?;
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("table.csv");
    let output = Command::new(program)
        .args(["-m", "tiny", "-u", &server.address().to_string(), "-i", protocol, "--shape", "x:1,16"])
        .args(["--concurrency-range", "4", "--measurement-mode", "count_windows"])
        .args(["--measurement-request-count", "500", "--stability-percentage", "999", "--max-trials", "3"])
        .arg("--verbose-csv")
        .arg("-f")
        .arg(&table)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let table = std::fs::read_to_string(&table).unwrap();
    let (names, numbers) = table.split_once('\n').unwrap_or_else(|| panic!("no row: {table}"));
    let numbers = numbers.trim().split(',').map(|number| number.parse().unwrap_or(f64::NAN));
    Some((text, names.split(',').map(str::to_owned).zip(numbers).collect()))
}

fn perf_analyzer_is_told_where_the_time_went(protocol: &str) {
    let repository = models();
    let server = Server::builder().repository(&repository).start();
    let Some((text, table)) = analyzed(&server, protocol) else { return };
    let (_, told) = text.split_once("Server:").unwrap_or_else(|| panic!("nothing of the server: {text}"));
    let number = |before: &str| -> u64 {
        let rest = told.split_once(before).unwrap_or_else(|| panic!("no '{before}' in {told}")).1;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_else(|_| panic!("no number behind '{before}': {told}"))
    };
    assert!(number("Inference count: ") >= 500, "{told}");
    assert!(number("Successful request count: ") >= 500, "{told}");
    assert!((1..=number("Inference count: ")).contains(&number("Execution count: ")), "{told}");
    assert!(number("Avg request latency: ") > 0, "{told}");
    let column = |name: &str| {
        let found = table.iter().find(|(column, _)| column == name);
        found.unwrap_or_else(|| panic!("no column '{name}' in {table:?}")).1
    };
    assert!(column("Inferences/Second") > 0.0, "{table:?}");
    for filled in ["Server Queue", "Server Compute Infer"] {
        assert!(column(filled) > 0.0, "{filled}: {table:?}");
    }
    // Copies of 16 numbers may take less than a microsecond.
    for told in ["Server Compute Input", "Server Compute Output"] {
        assert!(column(told) >= 0.0, "{told}: {table:?}");
    }
}

#[test]
fn perf_analyzer_is_told_where_the_time_went_over_http() {
    perf_analyzer_is_told_where_the_time_went("http");
}

#[test]
fn perf_analyzer_is_told_where_the_time_went_over_grpc() {
    perf_analyzer_is_told_where_the_time_went("grpc");
}

#[test]
fn the_clients_of_kserves_sdk_get_what_they_ask_for() {
    let Some(python) = program("NUKE_TEST_KSERVE_PYTHON") else { return };
    let repository = models();
    let server = Server::builder().repository(&repository).start();
    let output = Command::new(python)
        .arg(root().join("tests/python/kserve_client.py"))
        .arg(server.url())
        .arg(server.address().to_string())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{told}");
    let done: Vec<&str> = text.lines().collect();
    assert_eq!(done, ["rest, version 2", "rest, version 1", "grpc", "grpc, the repository", "ok"], "{told}");
}
