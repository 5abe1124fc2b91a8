//! The command line: which command, with which flags.
//!
//! Owns the exit codes: 0 for done, 1 for a command that failed at its work, 2 for a client that got no
//! answer, 64 for bad usage or configuration, 69 for something the machine lacks, 130 for a server that
//! was told twice to stop, or for a publish or an install that was told to. It never does the work itself.

mod check;
mod flags;
mod host;
mod key_place;
mod keys;
mod listeners;
mod nodes;
mod publish;
mod runtime;
mod serve;
mod signing;
mod tls;
mod validate;
mod versions;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::client::{
    BenchArgs, CacheArgs, FillArgs, NodesArgs, PredictArgs, RolloutArgs, TrafficArgs, run_bench, run_cache,
    run_fill, run_nodes, run_predict, run_rollout, run_traffic,
};
use crate::isolation::WorkerArgs;
use crate::repository::ChildArgs;
use flags::HostFlags;
use keys::KeysArgs;
use publish::{PublishArgs, UnpublishArgs};
use runtime::RuntimeCommand;
use tls::TlsArgs;
use versions::VersionsArgs;

/// Bad usage or configuration, as `sysexits.h` numbers it.
const EXIT_CONFIG: u8 = 64;
/// Something that the machine should have is missing or unusable.
const EXIT_UNAVAILABLE: u8 = 69;

/// Ended by a signal, as shells number SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

/// A WebAssembly-plugin inference host.
#[derive(Debug, Parser)]
#[command(name = "nuke", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the models of a folder over HTTP and gRPC.
    Serve(HostFlags),
    /// Load and run everything once, and list all problems; exits 1 if there are any.
    Check(HostFlags),
    /// Put a version into a folder of models, whole or not at all.
    Publish(PublishArgs),
    /// Take a version out of a folder of models.
    Unpublish(UnpublishArgs),
    /// List the versions in a folder of models, and whether they are as they were published.
    Versions(VersionsArgs),
    /// Make, list, rotate and revoke API keys.
    Keys(KeysArgs),
    /// Send a file to a running host and show the answer.
    Predict(Box<PredictArgs>),
    /// Send files to a running host ahead, so that it remembers the answers.
    Precompute(Box<FillArgs>),
    /// Show, forget or fill what a running host remembers.
    Cache(CacheArgs),
    /// Show or set which version of a model answers, on a running host.
    Traffic(TrafficArgs),
    /// Show, promote or abort the rollout of a new version, on a running host.
    Rollout(RolloutArgs),
    /// List the hosts that share a Redis, and what each of them serves.
    Nodes(NodesArgs),
    /// Put a running host under load and measure it.
    Bench(Box<BenchArgs>),
    /// Make a certificate for trying TLS.
    Tls(TlsArgs),
    /// Get the ONNX Runtime library, or tell which one there is.
    #[command(subcommand)]
    Runtime(RuntimeCommand),
    /// Validate the version on standard input: the host starts this itself.
    #[command(hide = true)]
    ValidateVersion(ChildArgs),
    /// Run a model for a host, on standard input: the host starts this itself.
    #[command(hide = true)]
    Worker(WorkerArgs),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to do if standard output or error is closed.
            let _closed = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        Command::Serve(flags) => serve::run(&flags),
        Command::Check(flags) => check::run(&flags),
        Command::Publish(args) => publish::run(&args),
        Command::Unpublish(args) => publish::remove(&args),
        Command::Versions(args) => versions::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Predict(args) => run_predict(*args),
        Command::Precompute(args) => run_fill(&args),
        Command::Cache(args) => run_cache(args),
        Command::Traffic(args) => run_traffic(args),
        Command::Rollout(args) => run_rollout(args),
        Command::Nodes(args) => run_nodes(&args),
        Command::Bench(args) => run_bench(*args),
        Command::Tls(args) => tls::run(&args),
        Command::Runtime(command) => runtime::run(command),
        Command::ValidateVersion(args) => validate::run(args),
        Command::Worker(args) => worker::run(args),
    }
}

/// A command that cannot go on: what to say, and the exit code.
#[derive(Debug)]
struct Failure {
    message: String,
    exit: u8,
}

impl Failure {
    fn config(message: impl ToString) -> Self {
        Self { message: message.to_string(), exit: EXIT_CONFIG }
    }

    fn failed(message: impl ToString) -> Self {
        Self { message: message.to_string(), exit: 1 }
    }

    fn unavailable(message: impl ToString) -> Self {
        Self { message: message.to_string(), exit: EXIT_UNAVAILABLE }
    }

    /// Says it on standard error, every line with the command's name.
    fn report(&self) -> ExitCode {
        for line in self.message.lines() {
            eprintln!("nuke: {line}");
        }
        ExitCode::from(self.exit)
    }
}
