//! How a host stands while it is under load: its workers and its runs, read from its metrics.
//!
//! Owns a thread that asks for them four times a second. A look that fails is left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::super::super::exchange::{Outgoing, fetch};
use super::super::super::host::Host;

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(250);
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How things stand at a moment. Counts are since the host started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) at: Instant,
    /// Workers that there are.
    pub(super) workers: f64,
    /// Runs so far.
    pub(super) runs: f64,
    /// Items of all runs so far.
    pub(super) items: f64,
}

/// Looks at a host until it is told to stop.
pub(super) struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

impl Sampler {
    /// Begins.
    pub(super) fn start(host: &Host) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, host) = (Arc::clone(&stop), host.clone());
        let thread = std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return Vec::new();
            };
            let mut samples = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                samples.extend(runtime.block_on(look(&host)));
                std::thread::sleep(PERIOD);
            }
            samples.extend(runtime.block_on(look(&host)));
            samples
        });
        Self { stop, thread }
    }

    /// Ends, and hands over what was seen, in order.
    pub(super) fn finish(self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

async fn look(host: &Host) -> Option<Sample> {
    let path = "/metrics".to_owned();
    let outgoing = Outgoing { method: Method::GET, path, headers: HeaderMap::new(), body: Bytes::new() };
    let answer = fetch(host, outgoing, PATIENCE).await.ok()?;
    parse(&answer.body, Instant::now())
}

/// Reads what is of interest; the host has one model.
fn parse(body: &[u8], at: Instant) -> Option<Sample> {
    let text = std::str::from_utf8(body).ok()?;
    let sum = |name: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let values = lines.filter(|rest| rest.starts_with(['{', ' ']));
        values.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let sample = Sample {
        at,
        workers: sum("nuke_workers"),
        runs: sum("nuke_run_items_count"),
        items: sum("nuke_run_items_sum"),
    };
    (sample.workers > 0.0).then_some(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_and_runs_are_read_and_nothing_else() {
        let text = "# HELP nuke_workers Workers\n# TYPE nuke_workers gauge\nnuke_workers{model=\"m\",version=\"1\"} 2\n\
                    nuke_workers_busy{model=\"m\"} 7\nnuke_run_items_sum{model=\"m\"} 80.0\n\
                    nuke_run_items_count{model=\"m\"} 10\nnuke_run_items_bucket{le=\"1.0\"} 3\n";
        let at = Instant::now();
        assert_eq!(parse(text.as_bytes(), at), Some(Sample { at, workers: 2.0, runs: 10.0, items: 80.0 }));
        assert_eq!(parse(b"nothing", at), None);
        assert_eq!(parse(&[0xff], at), None);
    }
}
