//! The metrics of the compute layer: batches, what was dropped from queues, workers that come and go.
//!
//! Owns their names and labels. A generation resolves its series once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::labels::VersionLabels;
use super::statistics::{Statistics, StatisticsCounter};
use crate::isolation::LossKind;

/// Upper bounds of the items of a run.
const ITEMS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabels {
    model: String,
    version: String,
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeviceLabels {
    model: String,
    version: String,
    device: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    model: String,
    version: String,
    reason: &'static str,
}

/// The families of all generations.
#[derive(Debug)]
pub struct ComputeMetrics {
    runs: Family<VersionLabels, Histogram, fn() -> Histogram>,
    limits: Family<VersionLabels, Gauge>,
    expired: Family<VersionLabels, Counter>,
    stopped: Family<VersionLabels, Counter>,
    retried: Family<VersionLabels, Counter>,
    steps: Family<DirectionLabels, Counter>,
    devices: Family<DeviceLabels, Gauge>,
    /// The series of `devices` that each version has.
    placed: Mutex<BTreeMap<(String, String), DeviceLabels>>,
    /// By model and version.
    statistics: Mutex<BTreeMap<(String, String), Arc<Statistics>>>,
    processes: Family<VersionLabels, Gauge>,
    losses: Family<ReasonLabels, Counter>,
}

impl Default for ComputeMetrics {
    fn default() -> Self {
        Self {
            runs: Family::new_with_constructor(|| Histogram::new(ITEMS)),
            limits: Family::default(),
            expired: Family::default(),
            stopped: Family::default(),
            retried: Family::default(),
            steps: Family::default(),
            devices: Family::default(),
            placed: Mutex::default(),
            statistics: Mutex::default(),
            processes: Family::default(),
            losses: Family::default(),
        }
    }
}

impl ComputeMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("run_items", "Items of each run of a model: a batch's size", self.runs.clone());
        registry.register(
            "batch_limit_items",
            "Items that a run may have; 1 if requests share no runs",
            self.limits.clone(),
        );
        registry.register(
            "queue_expired_requests",
            "Requests whose time ran out in the queue, found when a worker came to them",
            self.expired.clone(),
        );
        registry.register(
            "runs_stopped",
            "Runs that were ended because nobody waited for them any more",
            self.stopped.clone(),
        );
        registry.register(
            "batches_retried",
            "Batches that failed and were run again request by request",
            self.retried.clone(),
        );
        registry.register("model_device", "1 for the device that a version runs on", self.devices.clone());
        registry.register("worker_processes", "Processes of workers that live", self.processes.clone());
        registry.register(
            "worker_deaths",
            "Processes of workers that died, by reason; each is replaced, unless the version is given up",
            self.losses.clone(),
        );
        registry.register("worker_steps", "Workers that were added (out) or ended (in)", self.steps.clone());
    }

    /// The series of one generation.
    pub fn generation(&self, model: &str, version: &str) -> Arc<ComputeSeries> {
        let labels = VersionLabels::of(model, version);
        let step = |direction: &'static str| {
            let (model, version) = (model.to_owned(), version.to_owned());
            self.steps.get_or_create_owned(&DirectionLabels { model, version, direction })
        };
        let mut all = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        let statistics = Arc::clone(all.entry((model.to_owned(), version.to_owned())).or_default());
        Arc::new(ComputeSeries {
            statistics: StatisticsCounter::new(statistics),
            runs: self.runs.get_or_create_owned(&labels),
            limit: self.limits.get_or_create_owned(&labels),
            expired: self.expired.get_or_create_owned(&labels),
            stopped: self.stopped.get_or_create_owned(&labels),
            retried: self.retried.get_or_create_owned(&labels),
            added: step("out"),
            ended: step("in"),
            processes: self.processes.get_or_create_owned(&labels),
            losses: self.losses.clone(),
            labels,
        })
    }

    /// A version runs on this device from now on, and on no other.
    pub fn runs_on(&self, model: &str, version: &str, device: &str) {
        let (model, version) = (model.to_owned(), version.to_owned());
        let labels =
            DeviceLabels { model: model.clone(), version: version.clone(), device: device.to_owned() };
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = placed.insert((model, version), labels.clone())
            && before != labels
        {
            self.devices.remove(&before);
        }
        self.devices.get_or_create_owned(&labels).set(1);
    }

    fn runs_nowhere(&self, model: &str, version: &str) {
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(labels) = placed.remove(&(model.to_owned(), version.to_owned())) {
            self.devices.remove(&labels);
        }
    }

    pub(super) fn forget(&self, model: &str, version: &str) {
        let labels = VersionLabels::of(model, version);
        self.runs_nowhere(model, version);
        self.runs.remove(&labels);
        self.limits.remove(&labels);
        let mut all = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&(model.to_owned(), version.to_owned()));
        drop(all);
        self.processes.remove(&labels);
        for kind in LossKind::ALL {
            self.losses.remove(&loss_labels(&labels, kind));
        }
        for counters in [&self.expired, &self.stopped, &self.retried] {
            counters.remove(&labels);
        }
        for direction in ["out", "in"] {
            let (model, version) = (model.to_owned(), version.to_owned());
            self.steps.remove(&DirectionLabels { model, version, direction });
        }
    }

    pub(super) fn unloaded(&self, model: &str, version: &str) {
        self.runs_nowhere(model, version);
        let labels = VersionLabels::of(model, version);
        self.limits.remove(&labels);
        self.processes.remove(&labels);
    }
}

/// Where one generation's compute layer counts.
#[derive(Debug)]
pub struct ComputeSeries {
    /// What the protocol's statistics tell.
    pub statistics: StatisticsCounter,
    /// Items of each run.
    pub runs: Histogram,
    /// Items that a run may have.
    pub limit: Gauge,
    /// Requests whose time ran out in the queue.
    pub expired: Counter,
    /// Runs that nobody waited for any more.
    pub stopped: Counter,
    /// Batches that failed as a whole.
    pub retried: Counter,
    /// Workers that came since the generation started.
    pub added: Counter,
    /// Workers that went while it served.
    pub ended: Counter,
    /// Processes of workers that live.
    pub processes: Gauge,
    losses: Family<ReasonLabels, Counter>,
    labels: VersionLabels,
}

impl ComputeSeries {
    /// Counts a worker's process that died.
    pub fn lost(&self, kind: LossKind) {
        self.losses.get_or_create(&loss_labels(&self.labels, kind)).inc();
    }
}

fn loss_labels(labels: &VersionLabels, kind: LossKind) -> ReasonLabels {
    let VersionLabels { model, version } = labels.clone();
    ReasonLabels { model, version, reason: kind.as_str() }
}
