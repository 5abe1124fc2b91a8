//! `nuke traffic` and `nuke rollout`: which version answers, shown and changed.
//!
//! Owns their arguments and the form in which a model's traffic is shown. The host decides.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value, json};

use super::error::ClientError;
use super::operate::{HostArgs, Question, finish, word};
use super::predict::read_input;
use super::table::{Align, Table};
use super::text;

/// Arguments of `nuke traffic`.
#[derive(clap::Args, Clone, Debug)]
pub struct TrafficArgs {
    #[command(subcommand)]
    command: TrafficCommand,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum TrafficCommand {
    /// Show who answers a model's requests, and how they do
    Show {
        /// The model's name
        #[arg(value_name = "MODEL")]
        model: String,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Set a model's traffic over that of its model.yaml
    #[command(
        override_usage = "nuke traffic set [OPTIONS] <MODEL> <FILE|--latest|--pin <V>|--weights <V=WEIGHT,…>>"
    )]
    Set {
        /// The model's name
        #[arg(value_name = "MODEL")]
        model: String,
        #[command(flatten)]
        policy: PolicyArgs,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Give a model's traffic back to its model.yaml
    Reset {
        /// The model's name
        #[arg(value_name = "MODEL")]
        model: String,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Switch a blue-green model to the other colour, or to the one that is named
    Switch {
        /// The model's name
        #[arg(value_name = "MODEL")]
        model: String,
        /// Which one is to answer [default: the other one]
        #[arg(value_name = "COLOUR", value_parser = ["blue", "green"])]
        colour: Option<String>,
        #[command(flatten)]
        host: HostArgs,
    },
}

/// One way to say what traffic is to be.
#[derive(clap::Args, Clone, Debug)]
#[group(id = "policy", required = true, multiple = false)]
struct PolicyArgs {
    /// A file with what `traffic` is in model.yaml; - reads the standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Always the latest version
    #[arg(long)]
    latest: bool,
    /// This version or label, and no other
    #[arg(long, value_name = "V")]
    pin: Option<String>,
    /// Versions by weight, such as 1=90,2=10
    #[arg(long, value_name = "V=WEIGHT,…")]
    weights: Option<String>,
}

impl PolicyArgs {
    fn body(&self) -> Result<Bytes, ClientError> {
        let value = match (&self.file, &self.pin, &self.weights) {
            (Some(file), ..) => return read_input(file),
            (_, Some(version), _) => json!({"strategy": "pinned", "version": version}),
            (.., Some(weights)) => json!({"strategy": "split", "weights": parse_weights(weights)?}),
            _ => json!({"strategy": "latest"}),
        };
        Ok(value.to_string().into())
    }
}

fn parse_weights(text: &str) -> Result<Value, ClientError> {
    let wrong = || ClientError::Usage(format!("--weights {text}: expected V=WEIGHT,…, such as 1=90,2=10"));
    let mut weights = Map::new();
    for pair in text.split(',') {
        let (version, weight) = pair.split_once('=').ok_or_else(wrong)?;
        let weight: f64 = weight.trim().parse().map_err(|_| wrong())?;
        let weight = serde_json::Number::from_f64(weight).ok_or_else(wrong)?;
        if weights.insert(version.trim().to_owned(), weight.into()).is_some() {
            return Err(wrong());
        }
    }
    Ok(Value::Object(weights))
}

/// Arguments of `nuke rollout`.
#[derive(clap::Args, Clone, Debug)]
pub struct RolloutArgs {
    /// What to do
    #[arg(value_enum)]
    action: RolloutAction,
    /// The model's name
    #[arg(value_name = "MODEL")]
    model: String,
    #[command(flatten)]
    host: HostArgs,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum RolloutAction {
    /// Show how far it is, and the gates
    Status,
    /// End it: the canary is the stable version
    Promote,
    /// End it: the canary gets no requests any more
    Abort,
    /// Begin again with a canary that was rolled back
    Retry,
}

/// Asks or tells a host. Makes its own runtime; must not be called within one.
///
/// Exit code 0 if the host did so, 1 if it refused, 2 if there is no answer.
pub fn run_traffic(args: TrafficArgs) -> ExitCode {
    finish(traffic(&args.command))
}

fn traffic(command: &TrafficCommand) -> Result<String, ClientError> {
    let (host, model, method, tail, body) = match command {
        TrafficCommand::Show { model, host } => (host, model, Method::GET, "traffic", Bytes::new()),
        TrafficCommand::Set { model, policy, host } => (host, model, Method::PUT, "traffic", policy.body()?),
        TrafficCommand::Reset { model, host } => (host, model, Method::DELETE, "traffic", Bytes::new()),
        TrafficCommand::Switch { model, colour, host } => {
            let body = colour.as_ref().map(|colour| json!({"active": colour}).to_string());
            (host, model, Method::POST, "traffic/switch", body.unwrap_or_default().into())
        }
    };
    let answer = host.ask(Question { method, model, tail, body })?;
    Ok(if host.json { format!("{answer}\n") } else { show(&answer) })
}

/// As [`run_traffic`], for rollouts.
pub fn run_rollout(args: RolloutArgs) -> ExitCode {
    finish(rollout(&args))
}

fn rollout(args: &RolloutArgs) -> Result<String, ClientError> {
    let (method, tail) = match args.action {
        RolloutAction::Status => (Method::GET, "traffic"),
        RolloutAction::Promote => (Method::POST, "rollout/promote"),
        RolloutAction::Abort => (Method::POST, "rollout/abort"),
        RolloutAction::Retry => (Method::POST, "rollout/retry"),
    };
    let answer = args.host.ask(Question { method, model: &args.model, tail, body: Bytes::new() })?;
    if answer["status"]["rollout"].is_null() {
        let strategy = word(&answer["status"]["strategy"]);
        return Err(ClientError::Nonsense(format!("traffic of '{}' is {strategy}, not rollout", args.model)));
    }
    Ok(if args.host.json { format!("{answer}\n") } else { show(&answer) })
}

fn show(answer: &Value) -> String {
    let status = &answer["status"];
    let mut shown =
        format!("{}: {} ({})\n", word(&answer["model"]), word(&status["strategy"]), word(&answer["source"]));
    if let Some(reason) = status["reason"].as_str() {
        let _ = writeln!(shown, "nobody answers: {}", text::one_line(reason));
    }
    shown.push_str(&arms(&status["arms"]));
    if status["rollout"].is_object() {
        shown.push_str(&rollout_lines(&status["rollout"]));
    }
    if status["shadow"].is_object() {
        let shadow = &status["shadow"];
        let _ = writeln!(
            shown,
            "mirror: {} copied, {} skipped, {} same, {} different",
            word(&shadow["copied"]),
            word(&shadow["skipped"]),
            word(&shadow["same"]),
            word(&shadow["different"])
        );
    }
    shown
}

fn arms(arms: &Value) -> String {
    let headings = [
        ("arm", Align::Left),
        ("version", Align::Left),
        ("share", Align::Right),
        ("answered", Align::Right),
        ("failed", Align::Right),
        ("p50", Align::Right),
        ("p95", Align::Right),
        ("state", Align::Left),
    ];
    let mut table = Table::new(headings.map(|(heading, align)| (heading.to_owned(), align)));
    for arm in arms.as_array().into_iter().flatten() {
        let seconds = |name: &str| {
            let seconds = arm["latency"][name].as_f64().filter(|seconds| (0.0..1e6).contains(seconds));
            seconds.map(|seconds| text::duration(std::time::Duration::from_secs_f64(seconds)))
        };
        table.push(vec![
            word(&arm["name"]),
            word(&arm["version"]),
            format!("{:.1} %", arm["share"].as_f64().unwrap_or_default() * 100.0),
            word(&arm["answered"]),
            word(&arm["failed"]),
            seconds("p50").unwrap_or_default(),
            seconds("p95").unwrap_or_default(),
            if arm["ready"] == true { "ready" } else { "not ready" }.to_owned(),
        ]);
    }
    table.render()
}

fn rollout_lines(rollout: &Value) -> String {
    let mut lines = format!(
        "rollout of {} against {}: {}, step {} of {}: {}\n",
        word(&rollout["canary"]),
        word(&rollout["stable"]),
        word(&rollout["phase"]),
        word(&rollout["step"]),
        word(&rollout["steps"]),
        word(&rollout["reason"]),
    );
    for gate in rollout["gates"].as_array().into_iter().flatten() {
        let fields = gate.as_object().into_iter().flatten();
        let pairs: Vec<String> =
            fields.map(|(name, value)| format!("{} {}", text::one_line(name), word(value))).collect();
        let _ = writeln!(lines, "  gate: {}", pairs.join(", "));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_pairs() {
        assert_eq!(parse_weights("1=90, 2=10.5").unwrap(), json!({"1": 90.0, "2": 10.5}));
        for wrong in ["", "1", "1=x", "1=1,1=2", "1=nan", "1=1,,2=3"] {
            assert!(parse_weights(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_host_says_cannot_drive_the_terminal() {
        let answer = json!({"model": "m\u{1b}[2J", "source": "admin", "status": {
            "strategy": "split", "reason": "x\ny",
            "arms": [{"name": "1", "version": "1", "share": 0.9, "latency": {"p50": 1e300}}, 7]}});
        let shown = show(&answer);
        assert!(!shown.contains('\u{1b}') && shown.contains("90.0 %") && shown.contains("x\\ny"), "{shown}");
        assert!(show(&json!([])).contains("arm"));
    }
}
