//! Answers in the host's own memory.
//!
//! Owns the bound in bytes over all models, the time of each answer, and the count of what each model has there. A hit
//! hands out what lies there: nothing is copied.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::notification::RemovalCause;
use moka::sync::Cache;

use super::entry::{Entry, now_ms};
use super::key::Key;
use crate::telemetry::CacheSeries;

/// What is known of one model beyond its answers.
#[derive(Debug)]
pub struct Shelf {
    model: String,
    /// Where it counts.
    pub series: CacheSeries,
}

impl Shelf {
    pub(super) fn new(model: &str, series: CacheSeries) -> Self {
        Self { model: model.to_owned(), series }
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.model
    }
}

/// An answer in memory.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) entry: Entry,
    shelf: Arc<Shelf>,
    /// Since when what is remembered of the model counted as it was stored.
    epoch: u64,
    size: u32,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Memory {
    held: Cache<Key, Arc<Held>>,
    limit: u64,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// Each entry has a time of its own.
struct OwnTime;

impl Expiry<Key, Arc<Held>> for OwnTime {
    fn expire_after_create(&self, _: &Key, held: &Arc<Held>, _: Instant) -> Option<Duration> {
        Some(held.entry.lifetime(now_ms()))
    }

    fn expire_after_update(
        &self,
        _: &Key,
        held: &Arc<Held>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(held.entry.lifetime(now_ms()))
    }
}

impl Memory {
    /// Room for so many bytes.
    pub(super) fn new(limit: u64) -> Self {
        let left = |_: Arc<Key>, held: Arc<Held>, cause: RemovalCause| {
            let reason = match cause {
                RemovalCause::Size => "size",
                RemovalCause::Expired => "expired",
                RemovalCause::Explicit => "purged",
                RemovalCause::Replaced => "replaced",
            };
            held.shelf.series.left(u64::from(held.size), reason);
        };
        let held = Cache::builder()
            .max_capacity(limit)
            .weigher(|_: &Key, held: &Arc<Held>| held.size)
            .expire_after(OwnTime)
            .eviction_listener(left)
            .build();
        Self { held, limit }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Held>> {
        self.held.get(key)
    }

    pub(super) fn insert(&self, key: Key, entry: Entry, shelf: &Arc<Shelf>, epoch: u64) {
        let size = u32::try_from(entry.size()).unwrap_or(u32::MAX);
        // Counted before it can be evicted.
        shelf.series.entered(u64::from(size));
        self.held.insert(key, Arc::new(Held { entry, shelf: Arc::clone(shelf), epoch, size }));
    }

    /// Drops what is from before its model's epoch, and says how many answers that were.
    pub(super) fn sweep(&self, epoch_of: impl Fn(&Shelf) -> u64) -> usize {
        let old = self.held.iter().filter(|(_, held)| held.epoch < epoch_of(&held.shelf));
        let keys: Vec<Key> = old.map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| self.held.invalidate(key));
        keys.len()
    }

    /// Takes out what is past its time, and what is too much.
    pub(super) fn settle(&self) {
        self.held.run_pending_tasks();
    }
}
