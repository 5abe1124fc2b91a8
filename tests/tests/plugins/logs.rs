//! What plugins may write, and what becomes of it.

use nuke_tests::{Server, eventually};
use serde_json::Value;

use crate::serving;

/// The lines about one model, once the request to it is among them.
fn lines_of(server: &Server, model: &str) -> Vec<Value> {
    let about = |server: &Server| -> Vec<Value> {
        let lines = server.logs().into_iter().map(|line| serde_json::from_str::<Value>(&line).expect("JSON"));
        lines
            .filter(|line| line["model"] == model && line["target"] != "nuke_host::repository::startup")
            .collect()
    };
    eventually("the access line", || about(server).iter().any(|line| line["target"] == "access"));
    about(server)
}

/// Those of these lines that the plugin wrote itself, by `logging`.
fn written(lines: &[Value]) -> Vec<&Value> {
    let by_the_host = |line: &Value| line.get("dropped").or(line.get("output")).is_some();
    lines.iter().filter(|line| line["target"] == "plugin" && !by_the_host(line)).collect()
}

#[test]
fn a_flood_of_log_lines_is_cut_and_counted() {
    let server = Server::builder()
        .repository(&serving(&["log-flood"]))
        .set("plugins.log", "4KiB")
        .set("plugins.time", "20s")
        .start();
    server.post("/predict/log-flood", "", "x").expect(200);
    let lines = lines_of(&server, "log-flood");
    let written = written(&lines);
    assert!((30..=41).contains(&written.len()), "{} lines of 100 bytes in 4 KiB", written.len());
    assert!(
        written.iter().all(|line| line["version"] == "1" && line["plugin"] == "plugin.wasm"),
        "{written:?}"
    );
    let dropped = lines.iter().find_map(|line| line["dropped"].as_u64());
    let dropped = dropped.unwrap_or_else(|| panic!("no line says for the model how many were dropped"));
    assert_eq!(dropped + written.len() as u64, 100_000);
}

#[test]
fn a_flood_of_standard_error_is_cut_and_said_to_be() {
    let server = Server::builder()
        .repository(&serving(&["stderr-flood"]))
        .set("plugins.log", "4KiB")
        .set("plugins.time", "20s")
        .start();
    server.post("/predict/stderr-flood", "", "x").expect(200);
    let lines = lines_of(&server, "stderr-flood");
    let output = lines.iter().find_map(|line| line["output"].as_str());
    let output = output.unwrap_or_else(|| panic!("no line has the model's output: {lines:?}"));
    assert!(output.len() < 10_000 && output.contains("bytes more were dropped"), "{output}");
}

#[test]
fn a_huge_line_is_dropped_whole() {
    let server =
        Server::builder().repository(&serving(&["log-huge-line"])).set("plugins.time", "20s").start();
    server.post("/predict/log-huge-line", "", "x").expect(200);
    let lines = lines_of(&server, "log-huge-line");
    assert_eq!(written(&lines), Vec::<&Value>::new());
    let longest = server.logs().iter().map(String::len).max();
    assert!(longest < Some(16_384), "a line of {longest:?} bytes");
}

#[test]
fn a_line_stays_one_line() {
    let server = Server::builder().repository(&serving(&["log-newlines"])).start();
    server.post("/predict/log-newlines", "", "x").expect(200);
    let lines = lines_of(&server, "log-newlines");
    let written = written(&lines);
    assert_eq!(written.len(), 1, "{written:?}");
    let message = written[0]["message"].as_str().unwrap();
    assert!(message.contains("forged") && !message.chars().any(char::is_control), "{message:?}");
    assert_eq!(written[0]["level"], "WARN");
}

#[test]
fn plugins_can_be_silenced() {
    let repository = serving(&["log-newlines", "stderr-trap"]);
    let server = Server::builder().repository(&repository).set("plugins.log", "0").start();
    server.post("/predict/log-newlines", "", "x").expect(200);
    let lines = lines_of(&server, "log-newlines");
    assert_eq!(written(&lines), Vec::<&Value>::new());
    let details = server.post("/predict/stderr-trap", "", "x").expect(500).json()["details"].clone();
    assert!(!details.to_string().contains("the end of the line"), "{details}");
}

#[test]
fn a_panics_words_are_in_the_log() {
    let server = Server::builder().repository(&serving(&["stderr-trap"])).start();
    server.post("/predict/stderr-trap", "", "x").expect(500);
    let lines = lines_of(&server, "stderr-trap");
    let found =
        lines.iter().any(|line| line.to_string().contains("panicked at fixture: the end of the line"));
    assert!(found, "{lines:?}");
}
