//! One arm: a version under a name, and how it does.
//!
//! Owns the counters, which are written from every request without a lock. It decides nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::histogram::{Histogram, Snapshot};

/// How a request ended, from the point of view of the version that served it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It answered.
    Answered,
    /// It did not, and it is to blame: a fault of the plugin, the model or the host, or no time left.
    Failed,
    /// It refused the request as wrong. One version gets no more wrong requests than another, so that one which
    /// refuses more is to blame all the same.
    Refused,
    /// Somebody else is to blame: the client went away, or left no time. Counts for nothing.
    Neither,
}

/// See the module.
#[derive(Debug)]
pub struct Arm {
    /// No other arm of this process has it.
    serial: u64,
    name: Arc<str>,
    version: Arc<str>,
    digest: String,
    seed: u64,
    answered: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    neither: AtomicU64,
    latency: Histogram,
    micros: AtomicU64,
    /// Wraps around; only differences over a short time are used.
    squared_micros: AtomicU64,
    rewards: Mutex<Rewards>,
}

/// What was posted for an arm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rewards {
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) sum_of_squares: f64,
}

/// What an arm has counted, at one moment or between two.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) refused: u64,
    pub(super) latency: Snapshot,
}

impl Sample {
    /// The requests for which the version itself is to be judged.
    pub(super) fn requests(&self) -> u64 {
        self.answered.saturating_add(self.failed).saturating_add(self.refused)
    }

    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            answered: self.answered.saturating_sub(earlier.answered),
            failed: self.failed.saturating_sub(earlier.failed),
            refused: self.refused.saturating_sub(earlier.refused),
            latency: self.latency.since(&earlier.latency),
        }
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        Self {
            answered: self.answered.saturating_add(other.answered),
            failed: self.failed.saturating_add(other.failed),
            refused: self.refused.saturating_add(other.refused),
            latency: self.latency.plus(&other.latency),
        }
    }
}

/// Plain sums for a bandit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sums {
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) refused: u64,
    pub(super) micros: u64,
    pub(super) squared_micros: u64,
    pub(super) rewards: Rewards,
}

impl Arm {
    pub(super) fn new(name: &str, version: &str, digest: &str, seed: &str) -> Self {
        static ARMS: AtomicU64 = AtomicU64::new(1);
        Self {
            serial: ARMS.fetch_add(1, Ordering::Relaxed),
            name: name.into(),
            version: version.into(),
            digest: digest.to_owned(),
            seed: xxh3_64(seed.as_bytes()),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            neither: AtomicU64::new(0),
            latency: Histogram::new(),
            micros: AtomicU64::new(0),
            squared_micros: AtomicU64::new(0),
            rewards: Mutex::default(),
        }
    }

    /// The arm's name in its policy.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The version that serves it.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// Counts a request that it served. Takes no lock.
    pub fn finished(&self, outcome: Outcome, took: Duration) {
        match outcome {
            Outcome::Neither => {
                self.neither.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Failed => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Refused => {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Answered => {
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                self.answered.fetch_add(1, Ordering::Relaxed);
                self.latency.record(took);
                self.micros.fetch_add(micros, Ordering::Relaxed);
                self.squared_micros.fetch_add(micros.wrapping_mul(micros), Ordering::Relaxed);
            }
        }
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn reward(&self, reward: f64) {
        let mut rewards = self.rewards.lock().unwrap_or_else(PoisonError::into_inner);
        rewards.count += 1;
        rewards.sum += reward;
        rewards.sum_of_squares += reward * reward;
    }

    pub(super) fn rewards(&self) -> Rewards {
        *self.rewards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn not_its_fault(&self) -> u64 {
        self.neither.load(Ordering::Relaxed)
    }

    pub(super) fn sample(&self) -> Sample {
        Sample {
            answered: self.answered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            latency: self.latency.snapshot(),
        }
    }

    pub(super) fn sums(&self) -> Sums {
        Sums {
            answered: self.answered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            micros: self.micros.load(Ordering::Relaxed),
            squared_micros: self.squared_micros.load(Ordering::Relaxed),
            rewards: self.rewards(),
        }
    }
}
