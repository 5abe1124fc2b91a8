//! The metrics of remembered answers.
//!
//! Owns their names and labels. A model resolves the series of the memory level once, so that a hit touches no map.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{ModelReasonLabels, gauge};

/// Upper bounds in seconds: from a look into memory to a store that is given up.
const BUCKETS: [f64; 12] = [
    0.000_001,
    0.000_002_5,
    0.000_005,
    0.000_01,
    0.000_025,
    0.000_1,
    0.000_25,
    0.001,
    0.002_5,
    0.01,
    0.025,
    0.1,
];

/// Where answers are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheLevel {
    /// In the host itself.
    Memory,
    /// In the store that nodes share.
    Redis,
}

impl CacheLevel {
    /// Its name in metrics and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
        }
    }
}

/// What came of asking a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheOutcome {
    /// It had an answer that was given.
    Hit,
    /// It had one past its time, which was given while it is computed anew.
    Stale,
    /// It had none, or none that the request took.
    Miss,
    /// It had none, and the request got the answer that was being computed for another one.
    Coalesced,
    /// The request asked that it is left out.
    Bypass,
    /// It could not be asked, or what it had was damaged.
    Error,
}

impl CacheOutcome {
    const ALL: [Self; 6] = [Self::Hit, Self::Stale, Self::Miss, Self::Coalesced, Self::Bypass, Self::Error];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Miss => "miss",
            Self::Coalesced => "coalesced",
            Self::Bypass => "bypass",
            Self::Error => "error",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    model: String,
    level: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LevelLabels {
    model: String,
    level: &'static str,
}

/// The families of all models.
#[derive(Clone, Debug)]
pub struct CacheMetrics {
    requests: Family<OutcomeLabels, Counter>,
    stores: Family<OutcomeLabels, Counter>,
    lookups: Family<LevelLabels, Histogram, fn() -> Histogram>,
    entries: Family<LevelLabels, Gauge>,
    bytes: Family<LevelLabels, Gauge>,
    evictions: Family<ModelReasonLabels, Counter>,
    limit: Gauge,
    flights: Gauge,
}

impl Default for CacheMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            stores: Family::default(),
            lookups: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            entries: Family::default(),
            bytes: Family::default(),
            evictions: Family::default(),
            limit: Gauge::default(),
            flights: Gauge::default(),
        }
    }
}

impl CacheMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "cache_requests",
            "Questions to remembered answers by level and outcome: hit, stale, miss, coalesced, bypass, error",
            self.requests.clone(),
        );
        registry.register(
            "cache_stores",
            "Answers that were to be remembered, by level and outcome: stored, too_large, purged, error, crowded",
            self.stores.clone(),
        );
        registry.register_with_unit(
            "cache_lookup_duration",
            "Time of asking a level; that of memory has the making of the key in it",
            Unit::Seconds,
            self.lookups.clone(),
        );
        registry.register("cache_entries", "Answers that are remembered", self.entries.clone());
        registry.register_with_unit(
            "cache_memory",
            "Memory of the answers that are remembered, about",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register(
            "cache_evictions",
            "Answers that left memory by reason: size, expired, purged, replaced",
            self.evictions.clone(),
        );
        registry.register_with_unit(
            "cache_memory_limit",
            "cache.memory; 0 if nothing is remembered",
            Unit::Bytes,
            self.limit.clone(),
        );
        registry.register("cache_flights", "Computations that others may wait for", self.flights.clone());
    }

    /// The series of one model.
    pub fn model(&self, model: &str) -> CacheSeries {
        let level = LevelLabels { model: model.to_owned(), level: CacheLevel::Memory.as_str() };
        CacheSeries {
            asked: CacheOutcome::ALL.map(|outcome| {
                let labels = outcome_labels(model, CacheLevel::Memory, outcome.as_str());
                self.requests.get_or_create_owned(&labels)
            }),
            lookup: self.lookups.get_or_create_owned(&level),
            entries: self.entries.get_or_create_owned(&level),
            bytes: self.bytes.get_or_create_owned(&level),
            model: model.to_owned(),
            all: self.clone(),
        }
    }

    /// Notes what all answers in memory may take, and how many computations are under way.
    pub fn observe(&self, limit: u64, flights: usize) {
        self.limit.set(gauge(limit));
        self.flights.set(gauge(flights));
    }
}

fn outcome_labels(model: &str, level: CacheLevel, outcome: &'static str) -> OutcomeLabels {
    OutcomeLabels { model: model.to_owned(), level: level.as_str(), outcome }
}

/// The series of one model.
#[derive(Clone, Debug)]
pub struct CacheSeries {
    asked: [Counter; 6],
    lookup: Histogram,
    entries: Gauge,
    bytes: Gauge,
    model: String,
    all: CacheMetrics,
}

impl CacheSeries {
    /// Counts a question to a level.
    pub fn asked(&self, level: CacheLevel, outcome: CacheOutcome) {
        match level {
            CacheLevel::Memory => self.asked[outcome as usize].inc(),
            CacheLevel::Redis => {
                let labels = outcome_labels(&self.model, level, outcome.as_str());
                self.all.requests.get_or_create(&labels).inc()
            }
        };
    }

    /// How often a level was asked with this outcome.
    pub fn count(&self, level: CacheLevel, outcome: CacheOutcome) -> u64 {
        match level {
            CacheLevel::Memory => self.asked[outcome as usize].get(),
            CacheLevel::Redis => {
                let labels = outcome_labels(&self.model, level, outcome.as_str());
                self.all.requests.get(&labels).map_or(0, |counter| counter.get())
            }
        }
    }

    /// Notes how long a level took to be asked.
    pub fn took(&self, level: CacheLevel, time: Duration) {
        match level {
            CacheLevel::Memory => self.lookup.observe(time.as_secs_f64()),
            CacheLevel::Redis => {
                let labels = LevelLabels { model: self.model.clone(), level: level.as_str() };
                self.all.lookups.get_or_create(&labels).observe(time.as_secs_f64());
            }
        }
    }

    /// Counts an answer that was to be remembered: `stored`, `too_large`, `purged`, `error` or `crowded`.
    pub fn stored(&self, level: CacheLevel, outcome: &'static str) {
        self.all.stores.get_or_create(&outcome_labels(&self.model, level, outcome)).inc();
    }

    /// Notes that an answer of so many bytes came into memory.
    pub fn entered(&self, bytes: u64) {
        self.entries.inc();
        self.bytes.inc_by(gauge(bytes));
    }

    /// Notes that it left, and why: `size`, `expired`, `purged` or `replaced`.
    pub fn left(&self, bytes: u64, reason: &'static str) {
        self.entries.dec();
        self.bytes.dec_by(gauge(bytes));
        let labels = ModelReasonLabels { model: self.model.clone(), reason };
        self.all.evictions.get_or_create(&labels).inc();
    }

    /// Answers in memory, and the bytes that they take.
    pub fn held(&self) -> (u64, u64) {
        let count = |held: &Gauge| u64::try_from(held.get()).unwrap_or_default();
        (count(&self.entries), count(&self.bytes))
    }
}
