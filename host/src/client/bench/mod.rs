//! `nuke bench`: load for a running host, and an honest account of how it bore it.
//!
//! Owns the load generator. It never measures in a host's process: what it reports is what a client sees. It
//! starts no host, a scenario's excepted.
//!
//! - `args` what was typed; `plan` what it means; `tensors`, `infer_body`, `random` the made-up
//!   tensors; `request` what is sent again and again, `draw` which of several is next.
//! - `schedule` when an open loop sends; `channel` what carries a request; `worker` both loops;
//!   `tally` what happened; `phase` threads and pacer; `session` rows and turns.
//! - `summary` the figures and the JSON; `report` the text; `histogram_file`, `progress`.
//! - `scenario` a story in several runs, on hosts of its own.
//!
//! Invariants: an open loop's response time counts from the intended moment, whoever was late; only
//! successes are in the times, and everything else is counted and shown; nothing is allocated for a
//! request beyond what hyper allocates; senders of one thread share one tally, and no lock is held
//! across an await.

mod args;
pub(super) mod channel;
mod draw;
mod histogram_file;
mod infer_body;
mod phase;
mod plan;
mod progress;
mod random;
mod report;
pub(super) mod request;
mod scenario;
mod schedule;
mod session;
mod summary;
mod tally;
mod tensors;
#[cfg(test)]
mod tests;
mod worker;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use args::BenchArgs;

use super::error::ClientError;
use super::interrupt::stop_on_interrupt;
use phase::Pace;
use summary::Report;

/// Loads a running host and reports. Makes its own runtimes; must not be called within one.
///
/// The first interrupt ends the run early and reports, the second ends the process. Exit code 0 if
/// no request failed (or `--allow-errors`), 1 if one did or the run ended early, 2 if the host
/// cannot be reached or the arguments make no sense.
pub fn run_bench(args: BenchArgs) -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_interrupt(Arc::clone(&stop));
    if args.target.scenario.is_some() {
        return scenario::run_scenario(&args, &stop);
    }
    match bench(&args, &stop).and_then(|report| write_report(&args, &report).map(|()| report)) {
        Ok(report) => exit_code(&report, args.output.allow_errors),
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
    }
}

fn bench(args: &BenchArgs, stop: &Arc<AtomicBool>) -> Result<Report, ClientError> {
    let plan = plan::make(args)?;
    session::probe(&plan, args.output.allow_errors)?;
    let rows = session::measure(&plan, stop)?;
    if let Some(path) = &args.output.histogram {
        histogram_file::write_all(path, &rows, plan.pace != Pace::Closed)?;
    }
    Ok(summary::report(args, &plan, &rows, stop.load(Ordering::Relaxed)))
}

fn write_report(args: &BenchArgs, report: &Report) -> Result<(), ClientError> {
    print(&if args.output.json { json_text(report)? } else { report::show(report) })
}

fn json_text(report: &impl serde::Serialize) -> Result<String, ClientError> {
    let json = serde_json::to_string_pretty(report);
    json.map(|json| json + "\n")
        .map_err(|error| ClientError::Usage(format!("cannot write the results: {error}")))
}

fn print(text: &str) -> Result<(), ClientError> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(ClientError::Usage(format!("cannot write the results: {error}")))
        }
        _ => Ok(()),
    }
}

fn exit_code(report: &Report, allow_errors: bool) -> ExitCode {
    let sides = || report.rows.iter().flat_map(|row| [Some(&row.measured), row.baseline.as_ref()]).flatten();
    let all_well = sides().all(|side| side.failed == 0 && side.succeeded > 0);
    if report.interrupted || !(all_well || allow_errors) { ExitCode::from(1) } else { ExitCode::SUCCESS }
}
