//! What all senders of a run share: what is left to send, and what became of the rest.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use indicatif::ProgressBar;
use serde::Serialize;

use super::super::cache_status::Verdict;
use super::super::text;
use super::files::{Files, Found};

/// Failures that are kept with their reasons; the others are counted.
const KEPT: usize = 10;
/// Characters of a reason that are kept.
const REASON: usize = 500;

/// See the module.
pub(super) struct Job {
    pub(super) model: String,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) infer: bool,
    pub(super) timeout: Duration,
    pub(super) retry_for: Duration,
    /// Set by an interrupt, and when one sender sees that it is of no use to go on.
    pub(super) stop: Arc<AtomicBool>,
    /// Requests that were sent again.
    pub(super) retried: AtomicU64,
    pub(super) bar: ProgressBar,
    pub(super) files: Mutex<Files>,
    pub(super) counts: Mutex<Counts>,
    pub(super) answered: AtomicBool,
}

/// What became of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Answers that were remembered already.
    pub(super) hits: u64,
    /// Answers that are remembered since.
    pub(super) stored: u64,
    /// Files without a remembered answer.
    pub(super) failed: u64,
    /// Bytes of the files that were answered.
    pub(super) bytes: u64,
    /// The first failures.
    pub(super) failures: Vec<Failure>,
}

/// A file whose answer is not remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Failure {
    /// Its path, safe for a terminal.
    pub(super) file: String,
    /// Why, safe for a terminal.
    pub(super) reason: String,
}

impl Job {
    pub(super) fn next_file(&self) -> Option<Found> {
        lock(&self.files).next()
    }

    pub(super) fn remembered(&self, verdict: Verdict, bytes: u64) {
        let mut counts = lock(&self.counts);
        counts.bytes += bytes;
        match verdict {
            Verdict::Hit => counts.hits += 1,
            Verdict::Stored | Verdict::NotStored | Verdict::Anonymous => counts.stored += 1,
        }
        self.tick(&counts);
    }

    pub(super) fn failed(&self, file: &Path, reason: String) {
        let mut counts = lock(&self.counts);
        counts.failed += 1;
        if counts.failures.len() < KEPT {
            let file = text::one_line(&file.to_string_lossy());
            counts.failures.push(Failure { file, reason: text::shorten(&text::printable(&reason), REASON) });
        }
        self.tick(&counts);
    }

    /// Whether the host has answered anything in this run.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    pub(super) fn note_answer(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }

    fn tick(&self, counts: &Counts) {
        self.bar.set_position(counts.hits + counts.stored + counts.failed);
        let failed = if counts.failed == 0 { String::new() } else { format!(", {} failed", counts.failed) };
        self.bar.set_message(format!("{} stored, {} hits{failed}", counts.stored, counts.hits));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
