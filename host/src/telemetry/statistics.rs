//! What the protocol's statistics extension tells of a version.
//!
//! Owns the rules of counting, for every protocol that asks. A request is counted once, when it ends, with the items
//! that it had; a run once for all its requests. What failed before it came to the model's queue, such as a malformed
//! body, is in no count, and neither is what the host asked itself to warm up. A request that got a remembered answer,
//! or the one that was computed for another request, is answered and a cache hit, and no inference. Counters are
//! atomics: a request takes no lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the time of a run went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunTimes {
    /// Putting the requests' inputs where the model reads them.
    pub input: Duration,
    /// The model itself.
    pub infer: Duration,
    /// Taking its outputs.
    pub output: Duration,
}

impl std::ops::AddAssign for RunTimes {
    fn add_assign(&mut self, other: Self) {
        self.input += other.input;
        self.infer += other.infer;
        self.output += other.output;
    }
}

/// How often something took place, and how long it took altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timed {
    /// How often.
    pub count: u64,
    /// Nanoseconds, all together.
    pub ns: u64,
}

impl Timed {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.ns = self.ns.saturating_add(nanos(took));
    }
}

/// The runs of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchStatistics {
    /// Items of each of these runs.
    pub size: u64,
    /// Putting inputs together.
    pub compute_input: Timed,
    /// The model.
    pub compute_infer: Timed,
    /// Taking outputs apart.
    pub compute_output: Timed,
}

/// One version's statistics at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatisticsSnapshot {
    /// When a request was answered last, in milliseconds since 1970; 0 if none was.
    pub last_inference_ms: u64,
    /// Items of the requests that were answered.
    pub inference_count: u64,
    /// Runs of the model that succeeded.
    pub execution_count: u64,
    /// Requests that were answered, from their arrival at the queue.
    pub success: Timed,
    /// Requests that were not: refused by the queue, too late, left by their client, or failed in the model.
    pub fail: Timed,
    /// Waiting in the queue, of those answered.
    pub queue: Timed,
    /// As [`RunTimes::input`], of those answered; what requests share counts in full for each.
    pub compute_input: Timed,
    /// As [`RunTimes::infer`].
    pub compute_infer: Timed,
    /// As [`RunTimes::output`].
    pub compute_output: Timed,
    /// Requests that a cache answered.
    pub cache_hit: Timed,
    /// Requests that a cache was asked for in vain.
    pub cache_miss: Timed,
    /// The runs by size, the smallest first.
    pub batches: Vec<BatchStatistics>,
}

#[derive(Debug, Default)]
struct Counter {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Counter {
    fn add(&self, took: Duration) {
        self.count.fetch_add(1, Relaxed);
        add(&self.ns, nanos(took));
    }

    fn now(&self) -> Timed {
        Timed { count: self.count.load(Relaxed), ns: self.ns.load(Relaxed) }
    }
}

/// The counters of a version, through all its loads.
#[derive(Debug, Default)]
pub struct Statistics {
    last_inference_ms: AtomicU64,
    inferences: AtomicU64,
    executions: AtomicU64,
    success: Counter,
    fail: Counter,
    queue: Counter,
    input: Counter,
    infer: Counter,
    output: Counter,
    cache_hit: Counter,
    cache_miss: Counter,
    /// Written once a run, by the worker that ran it.
    batches: Mutex<BTreeMap<u64, BatchStatistics>>,
}

impl Statistics {
    fn asked_now(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_inference_ms.fetch_max(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// How it stands now. Counters of a request that ends in just this moment may be told in part.
    pub fn snapshot(&self) -> StatisticsSnapshot {
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        StatisticsSnapshot {
            last_inference_ms: self.last_inference_ms.load(Relaxed),
            inference_count: self.inferences.load(Relaxed),
            execution_count: self.executions.load(Relaxed),
            success: self.success.now(),
            fail: self.fail.now(),
            queue: self.queue.now(),
            compute_input: self.input.now(),
            compute_infer: self.infer.now(),
            compute_output: self.output.now(),
            cache_hit: self.cache_hit.now(),
            cache_miss: self.cache_miss.now(),
            batches: batches.values().copied().collect(),
        }
    }
}

/// Where one generation counts for its version.
#[derive(Debug)]
pub struct StatisticsCounter {
    version: Arc<Statistics>,
    /// It has been warmed up: from now on it is asked by others.
    counting: AtomicBool,
    /// The first dimension of its inputs counts items.
    has_items: AtomicBool,
}

impl StatisticsCounter {
    pub(super) fn new(version: Arc<Statistics>) -> Self {
        Self { version, counting: AtomicBool::new(false), has_items: AtomicBool::new(true) }
    }

    /// Counts from now on.
    pub fn begin(&self) {
        self.counting.store(true, Relaxed);
    }

    /// Whether the first dimension of the inputs counts items; if not, each request is one.
    pub fn set_items(&self, has_items: bool) {
        self.has_items.store(has_items, Relaxed);
    }

    /// The version's counters.
    pub fn version(&self) -> &Statistics {
        &self.version
    }

    fn items(&self, items: usize) -> u64 {
        if self.has_items.load(Relaxed) { items.max(1) as u64 } else { 1 }
    }

    /// Counts a run that succeeded.
    pub fn ran(&self, items: usize, times: &RunTimes) {
        if !self.counting.load(Relaxed) {
            return;
        }
        self.version.executions.fetch_add(1, Relaxed);
        let mut batches = self.version.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let size = kept_size(&batches, self.items(items));
        let batch = batches.entry(size).or_insert(BatchStatistics { size, ..BatchStatistics::default() });
        batch.compute_input.add(times.input);
        batch.compute_infer.add(times.infer);
        batch.compute_output.add(times.output);
    }

    /// A request had a remembered answer, or that of another request, and this is how long it took.
    pub fn recalled(&self, took: Duration) {
        if !self.counting.load(Relaxed) {
            return;
        }
        self.version.asked_now();
        self.version.success.add(took);
        self.version.queue.add(Duration::ZERO);
        self.version.cache_hit.add(took);
    }

    /// A request that was answered had no remembered answer; looking for one and remembering this one took so long.
    pub fn missed(&self, took: Duration) {
        if self.counting.load(Relaxed) {
            self.version.cache_miss.add(took);
        }
    }

    /// A request that waited for the answer of another one got none.
    pub fn failed(&self, took: Duration) {
        if self.counting.load(Relaxed) {
            self.version.fail.add(took);
        }
    }

    /// A request for `items` has come. It counts as failed unless it is [answered](Asked::answered).
    pub fn asked(&self, items: usize) -> Asked<'_> {
        Asked { counter: self, items, arrived: Instant::now(), answered: false }
    }
}

/// A request that is being served.
#[derive(Debug)]
#[must_use]
pub struct Asked<'a> {
    counter: &'a StatisticsCounter,
    items: usize,
    arrived: Instant,
    answered: bool,
}

impl Asked<'_> {
    /// It has its answer, after waiting for so long.
    pub fn answered(mut self, queued: Duration, times: &RunTimes) {
        self.answered = true;
        let version = &self.counter.version;
        if !self.counter.counting.load(Relaxed) {
            return;
        }
        version.asked_now();
        add(&version.inferences, self.counter.items(self.items));
        version.success.add(self.arrived.elapsed());
        version.queue.add(queued);
        version.input.add(times.input);
        version.infer.add(times.infer);
        version.output.add(times.output);
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.answered && self.counter.counting.load(Relaxed) {
            self.counter.version.fail.add(self.arrived.elapsed());
        }
    }
}

/// Sizes of runs that a version keeps one by one. Requests choose sizes, and what they choose is never forgotten.
const MOST_SIZES: usize = 256;

/// Under which size a run is counted: its own, or, where there are too many, the next power of two.
fn kept_size(batches: &BTreeMap<u64, BatchStatistics>, size: u64) -> u64 {
    if batches.contains_key(&size) || batches.len() < MOST_SIZES {
        return size;
    }
    size.checked_next_power_of_two().unwrap_or(u64::MAX)
}

/// Counts on, and stays at the most there can be.
fn add(counter: &AtomicU64, more: u64) {
    let added = |count: u64| Some(count.saturating_add(more));
    let _never_refused = counter.fetch_update(Relaxed, Relaxed, added);
}

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const TIMES: RunTimes = RunTimes { input: MS, infer: MS.saturating_mul(2), output: MS };

    #[test]
    fn requests_that_share_a_run_count_one_by_one_and_their_run_once() {
        let counter = StatisticsCounter::new(Arc::default());
        // The host's own requests.
        counter.ran(1, &TIMES);
        counter.asked(1).answered(MS, &TIMES);
        drop(counter.asked(1));
        assert_eq!(counter.version().snapshot(), StatisticsSnapshot::default());

        counter.begin();
        let asked: Vec<_> = (0..64).map(|_| counter.asked(1)).collect();
        counter.ran(64, &TIMES);
        asked.into_iter().for_each(|asked| asked.answered(MS, &TIMES));
        drop(counter.asked(1));
        let now = counter.version().snapshot();
        assert_eq!((now.inference_count, now.execution_count), (64, 1));
        assert_eq!((now.success.count, now.fail.count), (64, 1));
        assert_eq!(now.queue, Timed { count: 64, ns: 64_000_000 });
        assert_eq!(now.compute_infer, Timed { count: 64, ns: 128_000_000 });
        assert_eq!(now.batches.len(), 1);
        assert_eq!(now.batches[0].size, 64);
        assert_eq!(now.batches[0].compute_infer, Timed { count: 1, ns: 2_000_000 });
        assert!(now.last_inference_ms > 1_700_000_000_000);
    }

    #[test]
    fn sizes_that_requests_make_up_are_kept_in_bounded_number_and_no_count_wraps() {
        let counter = StatisticsCounter::new(Arc::default());
        counter.begin();
        for size in 1..5000 {
            counter.ran(size * 7919, &TIMES);
            counter.asked(1 << 60).answered(MS, &TIMES);
        }
        counter.ran(usize::MAX, &TIMES);
        let now = counter.version().snapshot();
        assert!(now.batches.len() <= MOST_SIZES + 65, "{}", now.batches.len());
        assert_eq!(now.batches.iter().map(|batch| batch.compute_infer.count).sum::<u64>(), 5000);
        assert_eq!(now.inference_count, u64::MAX);
        assert_eq!(now.batches[0].size, 7919, "the first ones keep their own");
    }

    #[test]
    fn a_remembered_answer_is_an_answer_and_no_inference() {
        let counter = StatisticsCounter::new(Arc::default());
        counter.recalled(MS);
        counter.missed(MS);
        counter.failed(MS);
        assert_eq!(counter.version().snapshot(), StatisticsSnapshot::default());
        counter.begin();
        counter.asked(3).answered(MS, &TIMES);
        counter.missed(MS);
        counter.recalled(MS);
        counter.recalled(MS);
        counter.failed(MS);
        let now = counter.version().snapshot();
        assert_eq!((now.inference_count, now.success.count, now.queue.count, now.fail.count), (3, 3, 3, 1));
        assert_eq!(now.cache_hit, Timed { count: 2, ns: 2_000_000 });
        assert_eq!(now.cache_miss, Timed { count: 1, ns: 1_000_000 });
        assert_eq!(now.compute_infer.count, 1);
    }

    #[test]
    fn a_request_counts_its_items_if_the_model_has_any() {
        let counter = StatisticsCounter::new(Arc::default());
        counter.begin();
        counter.asked(5).answered(MS, &TIMES);
        counter.asked(0).answered(MS, &TIMES);
        assert_eq!(counter.version().snapshot().inference_count, 6);
        counter.set_items(false);
        counter.ran(5, &TIMES);
        counter.asked(5).answered(MS, &TIMES);
        let now = counter.version().snapshot();
        assert_eq!((now.inference_count, now.batches[0].size), (7, 1));
    }
}
