//! `nuke nodes`: the hosts that share a Redis, and what each of them serves.
//!
//! Owns its arguments and the form in which nodes are shown. The host that is asked knows them.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::operate::{HostArgs, finish};
use super::table::{Align, Table};
use super::text;

/// Arguments of `nuke nodes`.
#[derive(clap::Args, Clone, Debug)]
pub struct NodesArgs {
    #[command(flatten)]
    host: HostArgs,
}

/// Asks a host which others it sees. Makes its own runtime; must not be called within one.
///
/// Exit code 0 if the host has answered, 1 if it refused, 2 if there is no answer.
pub fn run_nodes(args: &NodesArgs) -> ExitCode {
    finish(args.host.get("/admin/nodes").map(|answer| match args.host.json {
        true => format!("{answer}\n"),
        false => show(&answer),
    }))
}

/// A text of the host, safe to print.
fn word(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text::one_line(text),
        other => text::one_line(&other.to_string()),
    }
}

fn show(answer: &Value) -> String {
    let headings = ["", "node", "id", "address", "version", "state", "in use", "waiting", "serves"];
    let align = |heading: &str| match heading {
        "in use" | "waiting" => Align::Right,
        _ => Align::Left,
    };
    let mut table = Table::new(headings.map(|heading| (heading.to_owned(), align(heading))));
    for node in answer["nodes"].as_array().into_iter().flatten() {
        table.push(vec![
            if node["own"] == true { "*" } else { "" }.to_owned(),
            word(&node["name"]),
            word(&node["id"]),
            word(&node["addresses"]["http"]),
            word(&node["version"]),
            word(&node["state"]),
            word(&node["in_use"]),
            word(&node["waiting"]),
            serves(&node["models"]),
        ]);
    }
    let mut shown = table.render();
    if answer["redis"] == "away" {
        let seen = answer["seen"].as_str().map_or_else(|| "never".to_owned(), text::one_line);
        let _ = writeln!(shown, "Redis cannot be reached; the other nodes were last seen: {seen}");
    }
    shown
}

/// The versions that answer, model by model.
fn serves(models: &Value) -> String {
    let models = models.as_array().into_iter().flatten();
    let shown = models.map(|model| {
        let versions = model["versions"].as_array().into_iter().flatten();
        let serving = versions.filter(|version| version["digest"].is_string());
        let serving: Vec<String> = serving.map(|version| word(&version["version"])).collect();
        format!("{}:{}", word(&model["name"]), serving.join(","))
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_host_says_of_nodes_is_shown_and_cannot_drive_the_terminal() {
        let version =
            |name: &str, digest: Value| json!({"version": name, "state": "ready", "digest": digest});
        let models =
            json!([{"name": "m", "versions": [version("1", json!("ab")), version("2", Value::Null)]}]);
        let answer = json!({"redis": "away", "seen": null, "nodes": [
            {"name": "a\u{1b}[2J", "own": true, "id": "1", "models": models, "in_use": 3}, 7]});
        let shown = show(&answer);
        assert!(!shown.contains('\u{1b}') && shown.contains("m:1") && !shown.contains("m:1,2"), "{shown}");
        assert!(shown.contains("never") && shown.contains('*'), "{shown}");
        assert!(show(&json!([])).contains("node"));
    }
}
