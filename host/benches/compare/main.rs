//! What the host is compared with, and what its parts cost: measured in one process, without a server.
//!
//! `cargo bench -p nuke-host --bench compare` makes every table with its defaults; with `-- COMMAND
//! --help` it says what one of them can be told. `tests/bench/run.py` puts the figures beside those of a
//! running host. Nothing here asserts a time.

mod calls;
mod echo;
mod gather;
mod native;
mod open;
mod photos;
mod places;
mod preprocess;
mod redis;
mod report;
mod stats;
mod tensors;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use report::Report;

/// Any failure: the text is shown, the exit code is 1.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
#[command(about = "In-process baselines and the cost of the host's parts")]
struct Cli {
    /// Print JSON instead of a Markdown table
    #[arg(long, global = true)]
    json: bool,
    /// What cargo adds of its own
    #[arg(long, global = true, hide = true)]
    bench: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// A loop around one model session: what a request would cost without a host
    Tensors(tensors::Args),
    /// What it costs to put requests together into a batch, beside the run
    Gather(gather::Args),
    /// The image pipeline as a native loop: decode, resize, run, labels
    Photos(photos::Args),
    /// A call into a plugin: empty, with 600 kB each way, with a fresh instance
    Calls(calls::Args),
    /// Preprocessing a photo: native, plugin with the host's kernels, plugin in pure WebAssembly
    Preprocess(preprocess::Args),
    /// Loading ONNX Runtime and opening sessions, each once
    Open(open::Args),
    /// Asking a Redis as the host does, an entry at a time; needs one that runs
    Redis(redis::Args),
    /// A bare hyper server that sends each body back; ends when its standard input does
    Echo(echo::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let Err(error) = run(cli.command, cli.json) else {
        return ExitCode::SUCCESS;
    };
    eprintln!("compare: {error}");
    ExitCode::FAILURE
}

fn run(command: Option<Command>, json: bool) -> Outcome<()> {
    let show = |report: Outcome<Report>| {
        println!("{}", report?.render(json));
        Ok(())
    };
    match command {
        Some(Command::Tensors(args)) => show(tensors::measure(&args)),
        Some(Command::Gather(args)) => show(gather::measure(&args)),
        Some(Command::Photos(args)) => show(photos::measure(&args)),
        Some(Command::Calls(args)) => show(calls::measure(&args)),
        Some(Command::Preprocess(args)) => show(preprocess::measure(&args)),
        Some(Command::Open(args)) => show(open::measure(&args)),
        Some(Command::Redis(args)) => show(redis::measure(&args)),
        Some(Command::Echo(args)) => echo::serve(&args),
        None => {
            for command in ["open", "tensors", "gather", "calls", "preprocess", "photos"] {
                run(Cli::parse_from(["compare", command]).command, json)?;
            }
            Ok(())
        }
    }
}
