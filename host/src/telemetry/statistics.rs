//! What one generation has done so far, and how long it took: the numbers that the protocol's statistics tell.
//!
//! Owns the counting. Requests count when they end, runs when a worker has made them; nothing is ever reset, and
//! nobody waits for anybody but workers for each other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::ErrorCode;
use crate::pipeline::{Stage, StageTimes};

/// How often something took place, and how long it took altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often.
    pub count: u64,
    /// Nanoseconds of all of them together.
    pub ns: u64,
}

impl Tally {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.ns = self.ns.saturating_add(nanos(took));
    }
}

/// A tally that many threads add to.
#[derive(Debug, Default)]
struct SharedTally {
    count: AtomicU64,
    ns: AtomicU64,
}

impl SharedTally {
    fn add(&self, took: Duration) {
        self.ns.fetch_add(nanos(took), Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    fn get(&self) -> Tally {
        Tally { count: self.count.load(Relaxed), ns: self.ns.load(Relaxed) }
    }
}

/// All numbers of one generation, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// When a request was answered last, in milliseconds since 1970; 0 if none was.
    pub last_inference_ms: u64,
    /// Items that were inferred: a batch counts as many as it has.
    pub items: u64,
    /// Runs of the model: a batch counts once.
    pub runs: u64,
    /// Requests that were answered, from their arrival to their answer.
    pub success: Tally,
    /// Requests that were accepted and failed, or that their client left.
    pub fail: Tally,
    /// Waiting for a worker, of those that were answered.
    pub queue: Tally,
    /// Before the model, of those that were answered: the plugin's preprocessing.
    pub compute_input: Tally,
    /// The model, of those that were answered.
    pub compute_infer: Tally,
    /// After the model, of those that were answered: the plugin's postprocessing.
    pub compute_output: Tally,
    /// The runs, by how many items they had.
    pub batches: BTreeMap<u64, Tally>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Statistics {
    last_inference_ms: AtomicU64,
    items: AtomicU64,
    runs: AtomicU64,
    success: SharedTally,
    fail: SharedTally,
    queue: SharedTally,
    compute_input: SharedTally,
    compute_infer: SharedTally,
    compute_output: SharedTally,
    batches: Mutex<BTreeMap<u64, Tally>>,
}

impl Statistics {
    /// Counts a request that ended.
    pub fn finished(&self, outcome: Result<(), ErrorCode>, total: Duration, times: &StageTimes) {
        match outcome {
            Ok(()) => {}
            // Such a request never was one for the model.
            Err(
                ErrorCode::InvalidArgument
                | ErrorCode::NotFound
                | ErrorCode::PayloadTooLarge
                | ErrorCode::UnsupportedMediaType
                | ErrorCode::Unimplemented,
            ) => return,
            Err(_) => return self.fail.add(total),
        }
        self.success.add(total);
        let tallies = [&self.compute_input, &self.queue, &self.compute_infer, &self.compute_output];
        for (stage, tally) in Stage::ALL.into_iter().zip(tallies) {
            tally.add(times.get(stage).unwrap_or_default());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_inference_ms.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Counts a run of the model that succeeded.
    pub fn ran(&self, items: usize, took: Duration) {
        let items = items as u64;
        self.items.fetch_add(items, Relaxed);
        self.runs.fetch_add(1, Relaxed);
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).entry(items).or_default().add(took);
    }

    /// The numbers as they stand.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            last_inference_ms: self.last_inference_ms.load(Relaxed),
            items: self.items.load(Relaxed),
            runs: self.runs.load(Relaxed),
            success: self.success.get(),
            fail: self.fail.get(),
            queue: self.queue.get(),
            compute_input: self.compute_input.get(),
            compute_infer: self.compute_infer.get(),
            compute_output: self.compute_output.get(),
            batches: self.batches.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_one_run_of_many_items_and_many_requests() {
        let statistics = Statistics::default();
        let mut times = StageTimes::default();
        times.set(Stage::Queue, Duration::from_nanos(5));
        times.set(Stage::Infer, Duration::from_nanos(70));
        statistics.ran(3, Duration::from_nanos(70));
        for _ in 0..3 {
            statistics.finished(Ok(()), Duration::from_nanos(100), &times);
        }
        statistics.finished(Err(ErrorCode::DeadlineExceeded), Duration::from_nanos(9), &times);
        statistics.finished(Err(ErrorCode::InvalidArgument), Duration::from_nanos(9), &times);
        let found = statistics.snapshot();
        assert_eq!((found.items, found.runs), (3, 1));
        assert_eq!(found.success, Tally { count: 3, ns: 300 });
        assert_eq!(found.fail, Tally { count: 1, ns: 9 });
        assert_eq!(found.queue, Tally { count: 3, ns: 15 });
        assert_eq!(found.compute_input, Tally { count: 3, ns: 0 });
        assert_eq!(found.compute_infer, Tally { count: 3, ns: 210 });
        assert_eq!(found.batches, BTreeMap::from([(3, Tally { count: 1, ns: 70 })]));
        assert!(found.last_inference_ms > 0);
    }
}
