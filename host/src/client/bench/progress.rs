//! The progress bar, on the standard error and only if that is a terminal.

use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::schedule::Limit;
use super::worker::Shared;

/// How far a run of several phases has come.
pub(super) struct Progress {
    bar: ProgressBar,
    finished: u64,
}

impl Progress {
    /// A bar over the given phases.
    pub(super) fn new(phases: impl Iterator<Item = (Duration, Limit)>) -> Self {
        let total = phases.map(|(warmup, limit)| length(warmup, limit)).sum();
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} % {msg}") {
            bar.set_style(style);
        }
        Self { bar, finished: 0 }
    }

    /// Shows how far the phase is that runs now.
    pub(super) fn tick(&self, shared: &Shared, label: &str) {
        let elapsed = shared.start.get().map(std::time::Instant::elapsed).unwrap_or_default();
        let (done, failed) = (shared.done.load(Ordering::Relaxed), shared.failed.load(Ordering::Relaxed));
        let current = match shared.limit {
            Limit::Time(_) => milliseconds(elapsed),
            Limit::Requests(_) => done,
        };
        self.bar.set_position(self.finished + current.min(length(shared.warmup, shared.limit)));
        let errors = if failed == 0 { String::new() } else { format!(", {failed} failed") };
        let stage =
            if elapsed < shared.warmup { "warm-up".to_owned() } else { format!("{done} requests{errors}") };
        self.bar.set_message(format!("{label}: {stage}"));
    }

    /// Takes a phase as done.
    pub(super) fn finish_phase(&mut self, warmup: Duration, limit: Limit) {
        self.finished += length(warmup, limit);
        self.bar.set_position(self.finished);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A phase's share of the bar: its time, or its requests.
fn length(warmup: Duration, limit: Limit) -> u64 {
    match limit {
        Limit::Time(duration) => milliseconds(warmup.saturating_add(duration)),
        Limit::Requests(requests) => requests,
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
