//! Durations of many runs, and what is told of them.

use std::time::{Duration, Instant};

/// Durations in microseconds.
#[derive(Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub(crate) fn push(&mut self, took: Duration) {
        self.0.push(took.as_secs_f64() * 1e6);
    }

    /// Adds all of another.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value that this share of the samples does not exceed; 0 if there are none.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0.0)
    }

    /// The least: what the work takes when nothing else disturbs it.
    pub(crate) fn best(&self) -> f64 {
        self.quantile(0.0)
    }

    /// Half of the samples are under it.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The columns of a table.
    pub(crate) fn columns(&self) -> [(&'static str, f64); 3] {
        [("best_us", self.best()), ("median_us", self.median()), ("p95_us", self.quantile(0.95))]
    }
}

/// A result, and how long it took to get.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let made = work();
    (made, started.elapsed())
}

/// Processor time of this process so far, where the system tells (Linux, in steps of 10 ms).
pub(crate) fn process_cpu() -> Option<Duration> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name may hold spaces; what follows its closing parenthesis does not.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Duration::try_from_secs_f64((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND).ok()
}
