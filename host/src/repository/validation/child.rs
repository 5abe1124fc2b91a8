//! The child's life: fewer rights, then the version, then one verdict.
//!
//! Owns the order. It opens no file but ONNX Runtime's, and its answer is all that leaves it.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::examine;
use super::wire::{self, Line};
use crate::child;
use crate::config::{Capability, ModelConfig};
use crate::model::{Runtime, RuntimeOptions};
use crate::plugin::{EngineOptions, PluginEngine, PluginLimits};
use crate::repository::load::{Loader, LoaderOptions};
use crate::repository::signature::TrustedKeys;
use crate::scheduler::Budget;
use crate::telemetry::Metrics;

/// The subcommand that a child is started with.
pub(super) const COMMAND: &str = "validate-version";
/// Steps of politeness: requests of the versions that serve go first.
const NICE: i32 = 5;

/// How a child is started: by the host, with the limits that it is to set itself.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct ChildArgs {
    /// Bytes of memory.
    #[arg(long)]
    pub memory: u64,
    /// Seconds of processor time.
    #[arg(long)]
    pub cpu: u64,
    /// The host's process id.
    #[arg(long)]
    pub parent: u32,
    /// ONNX Runtime's library, as the host has found it.
    #[arg(long)]
    pub ort_lib: PathBuf,
}

impl ChildArgs {
    pub(super) fn to_arguments(&self) -> [OsString; 8] {
        [
            "--memory".into(),
            self.memory.to_string().into(),
            "--cpu".into(),
            self.cpu.to_string().into(),
            "--parent".into(),
            self.parent.to_string().into(),
            "--ort-lib".into(),
            self.ort_lib.clone().into(),
        ]
    }
}

/// Validates the version on standard input and writes the verdict to standard output.
pub fn run_child(args: ChildArgs) {
    let limits = child::Limits {
        memory: Some(args.memory),
        cpu: Some(args.cpu),
        file: Some(0),
        nice: NICE,
        parent: args.parent,
    };
    let verdict = child::confine(limits).and_then(|not_done| {
        for what in not_done {
            say(&Line::Unconfined(what));
        }
        validate(args)
    });
    say(&verdict.map_or_else(Line::Bad, Line::Good));
}

fn validate(args: ChildArgs) -> Result<Vec<String>, String> {
    stage("it loaded ONNX Runtime");
    // Sessions get their settings with the version; the library has to be loaded before files are closed.
    let library = Some(args.ort_lib);
    let options = RuntimeOptions { library, intra_threads: 1 };
    let mut runtime = Runtime::start(options).map_err(|error| error.to_string())?;
    if let Err(error) = child::close_files() {
        say(&Line::Unconfined(format!("files can be opened: {error}")));
    }
    stage("it read the version");
    let (head, content) = wire::read(&mut std::io::stdin().lock())?;
    runtime.set_threads(head.intra_threads);
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
    let threads = threads.map_err(|error| format!("no thread can be started: {error}"))?;
    let _entered = threads.enter();
    let loader = loader(runtime, head.limits, head.allow)?;
    let mut settings = ModelConfig::default();
    settings.warmup.batch_sizes = head.batch_sizes;
    settings.workers.session = head.session;
    examine::examine(&loader, &content, settings, stage)
}

fn loader(runtime: Runtime, limits: PluginLimits, allow: Vec<Capability>) -> Result<Loader, String> {
    let engine = PluginEngine::new(&EngineOptions {
        threads: 1,
        pooling: Some(false),
        memory: limits.memory,
        // Machine code that the host runs unchecked must not come from here.
        compile_cache: None,
        image_files: false,
    });
    Ok(Loader {
        runtime: Arc::new(runtime),
        engine: Arc::new(engine.map_err(|error| error.to_string())?),
        metrics: Metrics::new(Runtime::build_info()),
        budget: Budget::new(1),
        given_up: Arc::default(),
        options: LoaderOptions {
            plugins: PathBuf::new(),
            limits,
            allow,
            files: 0,
            keys: TrustedKeys::parse([]).map_err(|error| error.to_string())?,
            validation: None,
        },
    })
}

fn stage(what: &str) {
    say(&Line::Stage(what.to_owned()));
}

/// A line for the parent. Without a parent there is nobody to tell.
fn say(line: &Line) {
    if let Ok(mut text) = serde_json::to_vec(line) {
        text.push(b'\n');
        let mut output = std::io::stdout().lock();
        let _closed = output.write_all(&text).and_then(|()| output.flush());
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: ChildArgs,
    }

    #[test]
    fn a_child_reads_the_arguments_that_a_parent_writes() {
        let args = ChildArgs { memory: u64::MAX, cpu: 1, parent: 7, ort_lib: "/a b/--lib.so".into() };
        let given = std::iter::once(OsString::from("nuke")).chain(args.to_arguments());
        assert_eq!(Command::try_parse_from(given).unwrap().args, args);
    }
}
