//! `nuke precompute`, and `nuke cache warm`, which is the same: a model's answers to files are remembered ahead.
//!
//! Owns the run: which files (`files`), how they are sent (`body`, `sender`), and the report. It holds as many files in
//! memory as it has senders, and knows of the cache what `cache-status` says. Nothing of it is undone by an interrupt:
//! what was remembered is a hit for the next run.

mod args;
mod body;
mod files;
mod job;
mod sender;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tokio::task::JoinSet;

pub use args::FillArgs;

use super::error::ClientError;
use super::host::Host;
use super::interrupt::stop_on_interrupt;
use super::text;
use files::Files;
use job::{Counts, Job};
use sender::Sender;

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Report {
    model: String,
    version: Option<String>,
    #[serde(flatten)]
    counts: Counts,
    /// Requests that were sent again to a host that was busy.
    retried: u64,
    seconds: f64,
    /// It ended before all files were sent.
    interrupted: bool,
}

/// Sends each file, so that the host remembers the answers. Makes its own runtime; must not be called within one.
///
/// The first interrupt ends the run after what is in flight and reports, the second ends the process. Exit code 0 if
/// every file's answer is remembered, 1 if one is not or the run ended early, 2 if the host cannot be reached or the
/// arguments do not go together.
pub fn run_fill(args: &FillArgs) -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_interrupt(Arc::clone(&stop));
    match fill(args, stop) {
        Ok((report, end)) => {
            print!("{}", if args.json { json(&report) } else { show(&report) });
            match end {
                Some(error) => {
                    eprintln!("error: {error}");
                    error.exit_code()
                }
                None if report.interrupted || report.counts.failed > 0 => ExitCode::from(1),
                None => ExitCode::SUCCESS,
            }
        }
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
    }
}

/// The report, and what ended the run before its time.
fn fill(args: &FillArgs, stop: Arc<AtomicBool>) -> Result<(Report, Option<ClientError>), ClientError> {
    let host = args.tls.host(&args.url)?;
    let job = Arc::new(Job {
        model: text::one_line(&args.model),
        path: args.path()?,
        headers: args.common_headers()?,
        infer: args.infer,
        timeout: args.timeout,
        retry_for: args.retry_for,
        stop,
        retried: AtomicU64::new(0),
        bar: bar(args),
        files: Mutex::new(Files::new(args.inputs.clone())),
        counts: Mutex::default(),
        answered: AtomicBool::new(false),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| ClientError::Usage(format!("cannot start: {error}")))?;
    let begin = Instant::now();
    let end = runtime.block_on(send(&job, &host, args.concurrency)).err();
    job.bar.finish_and_clear();
    let (counts, interrupted) = (job.counts(), job.stop.load(Ordering::Relaxed));
    if end.is_none() && !interrupted && counts == Counts::default() {
        return Err(ClientError::Usage("there are no files to send in what was named".to_owned()));
    }
    let report = Report {
        model: job.model.clone(),
        version: args.version.as_deref().map(text::one_line),
        counts,
        retried: job.retried.load(Ordering::Relaxed),
        seconds: begin.elapsed().as_secs_f64(),
        interrupted,
    };
    Ok((report, end))
}

/// The first file goes alone: it tells whether there is any use in the others.
async fn send(job: &Arc<Job>, host: &Host, concurrency: u16) -> Result<(), ClientError> {
    let mut first = Sender::new(Arc::clone(job), host.clone());
    let mut has_more = true;
    while has_more && !job.has_answered() {
        has_more = first.send_one().await.inspect_err(|_| job.stop.store(true, Ordering::Relaxed))?;
    }
    let mut senders = JoinSet::new();
    senders.spawn(first.send_all());
    (1..concurrency).for_each(|_| {
        senders.spawn(Sender::new(Arc::clone(job), host.clone()).send_all());
    });
    let mut end = Ok(());
    while let Some(done) = senders.join_next().await {
        let done = done.unwrap_or_else(|error| Err(ClientError::Usage(format!("a sender ended: {error}"))));
        if done.is_err() {
            // What the others have in flight is finished.
            job.stop.store(true, Ordering::Relaxed);
        }
        end = end.and(done);
    }
    end
}

/// On the standard error, if that is a terminal. The files are counted for it before.
fn bar(args: &FillArgs) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let count = u64::try_from(Files::new(args.inputs.clone()).count()).unwrap_or(u64::MAX);
    let bar = ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}

fn json(report: &Report) -> String {
    serde_json::to_string_pretty(report).unwrap_or_default() + "\n"
}

fn show(report: &Report) -> String {
    let Report { counts, .. } = report;
    let files = counts.hits + counts.stored + counts.failed;
    let time = text::duration(Duration::from_secs_f64(report.seconds));
    let mut shown = format!(
        "{}: {files} {} ({}) in {time}: {} stored, {} were there, {} failed\n",
        report.model,
        if files == 1 { "file" } else { "files" },
        text::bytes(counts.bytes as f64),
        counts.stored,
        counts.hits,
        counts.failed
    );
    if report.retried > 0 {
        let _ = writeln!(shown, "{} requests were sent again: the host was busy", report.retried);
    }
    if report.interrupted {
        shown.push_str("it ended before all files were sent; the next run finds what is there already\n");
    }
    for failure in &counts.failures {
        let _ = writeln!(shown, "  {}: {}", failure.file, failure.reason.replace('\n', "\n    "));
    }
    let others = counts.failed.saturating_sub(counts.failures.len() as u64);
    if others > 0 {
        let _ = writeln!(shown, "  and {others} more");
    }
    shown
}
