//! The metrics of memory, and of versions that are loaded on demand.
//!
//! Owns their names and labels. How much memory a version uses is an estimate; see `pipeline/footprint.rs`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{ModelOutcomeLabels, ModelReasonLabels, VersionLabels, gauge};

/// The families of all versions.
#[derive(Clone, Debug, Default)]
pub struct MemoryMetrics {
    used: Family<VersionLabels, Gauge>,
    total: Gauge,
    limit: Gauge,
    wakes: Family<ModelOutcomeLabels, Counter>,
    rests: Family<ModelReasonLabels, Counter>,
}

impl MemoryMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let bytes = || Unit::Bytes;
        registry.register_with_unit(
            "model_memory",
            "Memory that a version in memory is taken to use",
            bytes(),
            self.used.clone(),
        );
        registry.register_with_unit(
            "models_memory",
            "Memory that all versions are taken to use, those that are being loaded or freed included",
            bytes(),
            self.total.clone(),
        );
        registry.register_with_unit(
            "models_memory_limit",
            "repository.memory; 0 if it is off",
            bytes(),
            self.limit.clone(),
        );
        registry.register(
            "model_wakes",
            "Loads on demand by outcome: ok, failed, or refused for want of memory",
            self.wakes.clone(),
        );
        registry.register(
            "model_rests",
            "Versions unloaded until they are asked for again, by reason: memory or idle",
            self.rests.clone(),
        );
    }

    /// Notes what a version uses.
    pub fn uses(&self, model: &str, version: &str, bytes: u64) {
        self.used.get_or_create(&VersionLabels::of(model, version)).set(gauge(bytes));
    }

    /// Notes what all versions use.
    pub fn total(&self, bytes: u64) {
        self.total.set(gauge(bytes));
    }

    /// Notes what they may use.
    pub fn limit(&self, bytes: Option<u64>) {
        self.limit.set(gauge(bytes.unwrap_or_default()));
    }

    /// Counts a load on demand: `ok`, `failed` or `refused`.
    pub fn woke(&self, model: &str, outcome: &'static str) {
        self.wakes.get_or_create(&ModelOutcomeLabels { model: model.to_owned(), outcome }).inc();
    }

    /// Counts a version that was put to rest, for `memory` or because it was `idle`.
    pub fn rested(&self, model: &str, reason: &'static str) {
        self.rests.get_or_create(&ModelReasonLabels { model: model.to_owned(), reason }).inc();
    }

    pub(super) fn unloaded(&self, model: &str, version: &str) {
        self.used.remove(&VersionLabels::of(model, version));
    }
}
