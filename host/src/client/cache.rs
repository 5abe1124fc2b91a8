//! `nuke cache`: what a host remembers, shown, forgotten and filled ahead.
//!
//! Owns the arguments and the form in which the cache is shown. The host decides.

use std::fmt::Write as _;
use std::process::ExitCode;

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::error::ClientError;
use super::fill::{FillArgs, run_fill};
use super::operate::{HostArgs, Question, finish, word};
use super::table::{Align, Table};
use super::text;

/// What the host has at this path.
const PATH: &str = "/admin/cache";

/// Arguments of `nuke cache`.
#[derive(clap::Args, Clone, Debug)]
pub struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum CacheCommand {
    /// Show what is remembered, and how often that was of use
    Stats {
        /// Of this model alone
        #[arg(long, value_name = "MODEL")]
        model: Option<String>,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Forget what is remembered, on all nodes that share a Redis
    Purge {
        #[command(flatten)]
        what: Purged,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Fill the cache with the answers to files: the same as `nuke precompute`
    Warm(Box<FillArgs>),
}

#[derive(clap::Args, Clone, Debug)]
#[group(id = "purged", required = true, multiple = false)]
struct Purged {
    /// The answers of this model
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// The answers of all models
    #[arg(long)]
    all: bool,
}

/// Asks or tells a host. Makes its own runtime; must not be called within one.
///
/// Exit code 0 if the host did so, 1 if it refused or other nodes do not know of a purge yet, 2 if there is no answer;
/// of `warm` those of [`run_fill`].
pub fn run_cache(args: CacheArgs) -> ExitCode {
    match args.command {
        CacheCommand::Stats { model, host } => finish(stats(model.as_deref(), &host)),
        CacheCommand::Purge { what, host } => finish(purge(what.model.as_deref(), &host)),
        CacheCommand::Warm(args) => run_fill(&args),
    }
}

fn stats(model: Option<&str>, host: &HostArgs) -> Result<String, ClientError> {
    let answer = ask(Method::GET, model, host)?;
    Ok(if host.json { format!("{answer}\n") } else { show(&answer) })
}

fn purge(model: Option<&str>, host: &HostArgs) -> Result<String, ClientError> {
    let answer = ask(Method::DELETE, model, host)?;
    let shown = if host.json { format!("{answer}\n") } else { show_purge(&answer) };
    if answer["nodes"]["told"] == false {
        // It is done here; who asked for all nodes has to know that it is not done there.
        print!("{shown}");
        return Err(ClientError::Nonsense(format!(
            "other nodes do not know of it yet: {}; they hear of it as soon as this host reaches Redis",
            word(&answer["nodes"]["reason"])
        )));
    }
    Ok(shown)
}

fn ask(method: Method, model: Option<&str>, host: &HostArgs) -> Result<Value, ClientError> {
    match model {
        Some(model) => host.ask(Question { method, model, tail: "cache", body: Bytes::new() }),
        None => host.ask_path(method, PATH),
    }
}

fn size(value: &Value) -> String {
    value.as_f64().filter(|bytes| bytes.is_finite()).map(text::bytes).unwrap_or_default()
}

fn show(answer: &Value) -> String {
    let columns =
        ["model", "level", "entries", "bytes", "hits", "misses", "coalesced", "errors", "hit share"];
    let align = |index| if index < 2 { Align::Left } else { Align::Right };
    let columns = columns.iter().enumerate().map(|(index, heading)| ((*heading).to_owned(), align(index)));
    let mut table = Table::new(columns);
    for model in answer["models"].as_array().into_iter().flatten() {
        for level in ["memory", "redis"] {
            if model[level].is_object() {
                table.push(row(model, level));
            }
        }
    }
    let memory = &answer["memory"];
    let mut shown = table.render();
    let _ = writeln!(
        shown,
        "memory: {} answers, {} of {}",
        word(&memory["entries"]),
        size(&memory["bytes"]),
        size(&memory["limit"])
    );
    shown.push_str(&redis(&answer["redis"]));
    shown
}

fn row(model: &Value, level: &str) -> Vec<String> {
    let counts = &model[level];
    let count = |name: &str| counts[name].as_u64().unwrap_or_default();
    let (hits, others) = (count("hits"), count("misses").saturating_add(count("coalesced")));
    let asked = hits.saturating_add(others);
    let share =
        if asked == 0 { String::new() } else { format!("{:.1} %", hits as f64 / asked as f64 * 100.0) };
    let mut row =
        vec![word(&model["model"]), level.to_owned(), word(&counts["entries"]), size(&counts["bytes"])];
    row.extend(["hits", "misses", "coalesced", "errors"].map(|name| word(&counts[name])));
    row.push(share);
    row
}

fn redis(redis: &Value) -> String {
    if !redis.is_object() {
        return "Redis: none; this host remembers by itself (cache.redis)\n".to_owned();
    }
    if redis["up"] != true {
        return format!("Redis: cannot be reached: {}\n", word(&redis["reason"]));
    }
    let limit = match &redis["max_bytes"] {
        Value::Null => "without a limit".to_owned(),
        bytes => format!("of {}", size(bytes)),
    };
    format!(
        "Redis: {} keys of all kinds, {} {limit}, {} given up for want of memory\n",
        word(&redis["keys"]),
        size(&redis["bytes"]),
        word(&redis["evicted"])
    )
}

fn show_purge(answer: &Value) -> String {
    let of = match &answer["model"] {
        Value::Null => "all models".to_owned(),
        model => format!("model '{}'", word(model)),
    };
    let nodes = match &answer["nodes"]["told"] {
        Value::Bool(true) => "; the other nodes were told",
        _ => "",
    };
    format!("the answers of {of} are forgotten, {} of them in memory{nodes}\n", word(&answer["purged"]))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::super::testing::{TestServer, respond};
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: CacheArgs,
    }

    fn parse(line: &[&str]) -> Result<CacheArgs, clap::Error> {
        Line::try_parse_from([&["cache"], line].concat()).map(|line| line.args)
    }

    fn run(line: &[&str]) -> Result<String, ClientError> {
        match parse(line).unwrap().command {
            CacheCommand::Stats { model, host } => stats(model.as_deref(), &host),
            CacheCommand::Purge { what, host } => purge(what.model.as_deref(), &host),
            CacheCommand::Warm(_) => panic!("not of this test"),
        }
    }

    #[test]
    fn a_purge_says_what_of() {
        for wrong in [
            &["purge"][..],
            &["purge", "--all", "--model", "m"],
            &["purge", "m"],
            &[],
            &["warm", "--model", "m"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        let server = TestServer::start(|request| async move {
            let told = request.uri().path().contains("models");
            let asked = format!("{} {}", request.method(), request.uri());
            respond(
                200,
                json!({"model": asked, "purged": 3, "nodes": {"told": told, "reason": "down\u{1b}"}})
                    .to_string(),
            )
        });
        let url = server.host().to_string();
        let shown = run(&["purge", "--model", "a/b", "--url", &url]).unwrap();
        assert!(shown.contains("DELETE /admin/models/a%2Fb/cache") && shown.contains("were told"), "{shown}");
        let error = run(&["purge", "--all", "--url", &url]).unwrap_err();
        assert!(error.to_string().contains("do not know of it yet: down\\u{1b}"), "{error}");
        let error = run(&["purge", "--model", "", "--url", &url]).unwrap_err();
        assert!(error.to_string().contains("cannot be empty"), "{error}");
        let shown = show_purge(&json!({"model": null, "purged": 0, "nodes": null}));
        assert_eq!(shown, "the answers of all models are forgotten, 0 of them in memory\n");
    }

    #[test]
    fn what_a_host_says_is_shown_and_cannot_drive_the_terminal() {
        let level = json!({"entries": 2, "bytes": 3100, "hits": 3, "misses": 1, "coalesced": 0, "errors": 0});
        let answer = json!({
            "memory": {"limit": 1e6, "bytes": 3100, "entries": 2},
            "redis": {"up": true, "keys": 5, "bytes": 2e6, "max_bytes": null, "evicted": 0},
            "models": [{"model": "m\u{1b}[2J", "memory": level, "redis": level}, 7]});
        let shown = show(&answer);
        assert!(
            !shown.contains('\u{1b}') && shown.contains("75.0 %") && shown.contains("3.10 kB"),
            "{shown}"
        );
        assert!(shown.contains("without a limit") && shown.contains("redis"), "{shown}");
        let down = show(&json!({"redis": {"up": false, "reason": "timed out"}}));
        assert!(down.contains("cannot be reached: timed out"), "{down}");
        assert!(show(&json!([])).contains("Redis: none"));
    }
}
