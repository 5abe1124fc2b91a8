//! The metrics of nodes, and of what they share of the traffic between versions.
//!
//! Owns their names and labels.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::gauge;
use super::metrics::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    model: String,
}

/// The series of what this node shares with others.
#[derive(Debug, Default)]
pub struct NodeMetrics {
    nodes: Gauge,
    revisions: Family<ModelLabels, Gauge>,
    unshared: Family<ModelLabels, Gauge>,
    conflicts: Counter,
    adopted: Counter,
    age: Gauge<f64, std::sync::atomic::AtomicU64>,
    synced: Mutex<Option<Instant>>,
}

impl Metrics {
    /// The series of nodes, which are shown from now on; to be called once, and only where a store is shared.
    pub fn nodes(&self) -> Arc<NodeMetrics> {
        let metrics = Arc::new(NodeMetrics::default());
        metrics.register(&mut self.registry());
        metrics
    }
}

impl NodeMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("nodes", "Nodes that this one sees, itself included", self.nodes.clone());
        registry.register(
            "shared_state_revision",
            "Revision of a model's traffic that this node knows",
            self.revisions.clone(),
        );
        registry.register(
            "shared_state_unshared",
            "1 where this node knows a decision about a model's traffic that the others cannot know yet",
            self.unshared.clone(),
        );
        registry.register(
            "shared_state_conflicts",
            "Changes of traffic that had to begin anew because another node's came first",
            self.conflicts.clone(),
        );
        registry.register(
            "shared_state_adopted",
            "Changes of traffic that were taken over from other nodes",
            self.adopted.clone(),
        );
        registry.register_with_unit(
            "shared_state_sync_age",
            "Time since this node has last seen what nodes share; negative if it never has",
            Unit::Seconds,
            self.age.clone(),
        );
    }

    /// Notes how many nodes there are.
    pub fn nodes(&self, count: usize) {
        self.nodes.set(gauge(count));
    }

    /// Notes how a model's record stands.
    pub fn stands(&self, model: &str, revision: u64, is_shared: bool) {
        let labels = ModelLabels { model: model.to_owned() };
        self.revisions.get_or_create(&labels).set(gauge(revision));
        self.unshared.get_or_create(&labels).set(i64::from(!is_shared));
    }

    /// Shows a model no more whose record is gone.
    pub fn forget(&self, model: &str) {
        let labels = ModelLabels { model: model.to_owned() };
        self.revisions.remove(&labels);
        self.unshared.remove(&labels);
    }

    /// Counts a change that had to begin anew.
    pub fn conflicted(&self) {
        self.conflicts.inc();
    }

    /// Counts a change that came from another node.
    pub fn adopted(&self) {
        self.adopted.inc();
    }

    /// Notes that the store was seen just now.
    pub fn synced(&self) {
        *self.synced.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Brings the age up to now.
    pub fn observe(&self) {
        let synced = *self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        self.age.set(synced.map_or(-1.0, |at| at.elapsed().as_secs_f64()));
    }
}
