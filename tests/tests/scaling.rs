//! `nuke bench --scenario scaling`: it starts hosts of its own, tells what it found as table, JSON and picture,
//! says why a case cannot be made, and leaves nothing behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nuke_tests::{Signal, eventually, nuke, python, root};
use rustix::process::{Pid, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The scenario with these arguments. Temporary files go to `temporary`, which exists.
fn scenario(folder: &TempDir, arguments: &[&str]) -> Command {
    let temporary = folder.path().join("temporary");
    fs::create_dir_all(&temporary).unwrap();
    let mut command = nuke();
    command.current_dir(folder.path()).env("TMPDIR", &temporary).env("XDG_CACHE_HOME", folder.path());
    command.args(["bench", "--scenario", "scaling", "--models"]).arg(root().join("models")).args(arguments);
    command
}

fn run(folder: &TempDir, arguments: &[&str]) -> Output {
    scenario(folder, arguments).output().unwrap()
}

/// As `run`, and once more where the machine was too busy for the case to be made.
fn run_unless_busy(folder: &TempDir, arguments: &[&str]) -> Output {
    let mut output = run(folder, arguments);
    for _ in 0..5 {
        let err = text(&output.stderr);
        if !["one request alone takes", "no rate was found"].iter().any(|reason| err.contains(reason)) {
            break;
        }
        output = run(folder, arguments);
    }
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn leaves_nothing(folder: &TempDir) {
    // ONNX Runtime may leave a file of its own.
    let names =
        fs::read_dir(folder.path().join("temporary")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with("nuke")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The picture is XML, and has both runs in it.
#[track_caller]
fn is_a_picture(path: &Path) {
    let lines = "import sys, xml.dom.minidom as dom\n\
                 svg = dom.parse(sys.argv[1]).documentElement\n\
                 assert svg.tagName == 'svg', svg.tagName\n\
                 print(' '.join(line.getAttribute('class') for line in svg.getElementsByTagName('polyline')))";
    let read = Command::new(python()).args(["-c", lines]).arg(path).output().unwrap();
    assert!(read.status.success(), "{}", text(&read.stderr));
    let classes = text(&read.stdout);
    for class in ["one", "one99", "both", "both99", "workers", "batch"] {
        assert!(classes.split_whitespace().any(|found| found == class), "{class} in {classes}");
    }
}

#[test]
fn a_given_rate_is_run_twice_and_told_as_a_table_and_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let line =
        ["--model", "digits", "--rate", "200", "--duration", "1500ms", "--warmup", "200ms", "--svg", "a.svg"];
    let arguments = [&line[..], &["--allow-errors", "--max-workers", "2"]].concat();
    let output = run_unless_busy(&folder, &arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    assert!(out.starts_with("digits 1, open loop, 200 requests/s (poisson gaps)"), "{out}");
    let cells = |name: &str| -> Vec<String> {
        let row = out.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{out}"));
        row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    // Workers, batch, requests a second, five times, errors.
    let (one, both) = (cells("one worker, no batching"), cells("batching and scaling"));
    assert_eq!((one.len(), both.len(), one[0].as_str(), one[1].as_str()), (9, 9, "1", "1.0"), "{out}");
    assert_eq!((one[8].as_str(), both[8].as_str()), ("0", "0"), "{out}");
    assert!(out.contains("shown: "), "{out}");
    is_a_picture(&folder.path().join("a.svg"));
    leaves_nothing(&folder);
}

#[test]
fn the_rate_is_found_and_the_json_has_all_that_was_measured() {
    let folder = tempfile::tempdir().unwrap();
    let line =
        ["--model", "digits", "--slow", "40ms", "--fast", "30ms", "--duration", "1s", "--warmup", "200ms"];
    let arguments = [&line[..], &["--json", "--allow-errors", "--arrival", "constant"]].concat();
    let output = run_unless_busy(&folder, &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["scenario"], &report["model"]), (&"scaling".into(), &"digits".into()));
    assert_eq!((&report["arrival"], &report["rate_given"]), (&"constant".into(), &false.into()));
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {report}"));
    // Below it the one worker was quick, at it it is not.
    let mean = |run: &str| number(&report[run]["measured"]["response_time"]["mean_us"]) / 1e3;
    assert!(mean("one_worker") >= 40.0, "{report}");
    let trials = report["trials"].as_array().unwrap();
    assert!(trials.iter().any(|trial| number(&trial["mean_ms"]) >= 40.0), "{report}");
    assert_eq!(number(&report["one_worker"]["batch"]), 1.0);
    assert!(number(&report["batching_and_scaling"]["batch"]) >= 1.0);
    for run in ["one_worker", "batching_and_scaling"] {
        assert_eq!(number(&report[run]["measured"]["failed"]), 0.0, "{report}");
        assert!(!report[run]["slices"].as_array().unwrap().is_empty());
    }
    let shown = mean("one_worker") >= 40.0 && mean("batching_and_scaling") <= 30.0;
    assert_eq!(report["shown"], shown);
    leaves_nothing(&folder);
}

#[test]
fn a_case_that_cannot_be_made_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let broken = root().join("tests/fixtures/models").display().to_string();
    let cases: [(&[&str], &[&str]); 7] = [
        (&["--model", "nobody"], &["no model 'nobody'", "digits", "--models"]),
        (&["--model", "digits", "--version", "9"], &["no version 9", "1"]),
        (&["--svg", "absent/a.svg"], &["cannot write 'absent/a.svg'"]),
        (&["--fast", "2s"], &["--fast", "less than --slow"]),
        (&["--baseline", "/"], &["--baseline", "--scenario"]),
        (
            &[
                "--models",
                &broken,
                "--model",
                "slow",
                "--fast",
                "1ms",
                "--slow",
                "2ms",
                "--duration",
                "600ms",
            ],
            &["alone"],
        ),
        (&["--model", "digits", "--dim", "X[0]=x"], &["dim"]),
    ];
    for (line, needles) in cases {
        let output = if line.first() == Some(&"--models") {
            let mut command = nuke();
            let temporary = folder.path().join("temporary");
            command.current_dir(folder.path()).env("TMPDIR", temporary).args([
                "bench",
                "--scenario",
                "scaling",
            ]);
            command.args(line).output().unwrap()
        } else {
            run(&folder, line)
        };
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line:?}: {err}{}", text(&output.stdout));
        for needle in needles {
            assert!(err.contains(needle), "{needle:?} is not in {err:?}");
        }
        leaves_nothing(&folder);
    }
}

#[test]
fn an_interrupt_ends_its_hosts_and_removes_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = scenario(&folder, &["--model", "digits", "--rate", "50", "--duration", "1h"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let temporary = folder.path().join("temporary");
    let is_serving = || {
        let folders = fs::read_dir(&temporary).unwrap();
        let logs = folders.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("host.log")).ok());
        logs.into_iter().any(|log| log.contains("all versions have been loaded"))
    };
    eventually("its host serves", is_serving);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("ended early"), "{err}");
    leaves_nothing(&folder);
}
