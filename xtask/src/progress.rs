//! Owns what a person sees while a step runs: a spinner on a terminal, one plain line each elsewhere.
//! All of it goes to standard error.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Writes one line.
pub(crate) fn note(line: &str) {
    eprintln!("nuke: {line}");
}

/// Runs `work`, which writes nothing itself, under the name `title`.
///
/// # Errors
/// Those of `work`.
pub(crate) fn step<T>(title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let spinner = std::io::stderr().is_terminal().then(|| spinner(title));
    if spinner.is_none() {
        note(&format!("{title} ..."));
    }
    let result = work();
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let outcome = if result.is_ok() { "done" } else { "failed" };
    note(&format!("{title}: {outcome} in {:.1} s", started.elapsed().as_secs_f64()));
    result
}

fn spinner(title: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("nuke: {msg} {spinner} {elapsed}");
    let spinner = ProgressBar::new_spinner().with_message(title.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(120));
    style.map_or_else(|_| spinner.clone(), |style| spinner.clone().with_style(style))
}
