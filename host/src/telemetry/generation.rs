//! Where one generation counts.
//!
//! Owns the series of a version that are resolved once, so that a request touches no map.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::endpoint::Endpoint;
use super::in_flight::InFlight;
use super::labels::{VersionLabels, gauge};
use super::metrics::{Metrics, RequestLabels, Seconds};
use crate::error::ErrorCode;
use crate::pipeline::{Stage, StageTimes};
use crate::plugin::PoolStatus;

/// The series of one generation.
#[derive(Debug)]
pub struct GenerationMetrics {
    pub(super) all: Arc<Metrics>,
    pub(super) labels: VersionLabels,
    pub(super) answered: [Counter; 3],
    pub(super) total: Histogram,
    pub(super) stages: [Histogram; Stage::ALL.len()],
    pub(super) cpu: [Option<Seconds>; 2],
    pub(super) in_flight: Gauge,
    /// Instances created and broken that the counters have in them already: other generations of the same
    /// version count there too.
    pub(super) observed: Mutex<(u64, u64)>,
}

impl GenerationMetrics {
    /// Counts a request in until the guard is dropped.
    pub fn enter(&self) -> InFlight {
        InFlight::enter(self.in_flight.clone())
    }

    /// Counts a request that ended.
    pub fn finished(
        &self,
        endpoint: Endpoint,
        outcome: Result<(), ErrorCode>,
        total: Duration,
        times: &StageTimes,
    ) {
        self.total.observe(total.as_secs_f64());
        for (stage, histogram) in Stage::ALL.into_iter().zip(&self.stages) {
            if let Some(took) = times.get(stage) {
                histogram.observe(took.as_secs_f64());
            }
        }
        let Err(code) = outcome else {
            self.answered[endpoint as usize].inc();
            return;
        };
        let labels = RequestLabels {
            model: self.labels.model.clone(),
            version: self.labels.version.clone(),
            endpoint: endpoint.as_str(),
            outcome: code.as_str(),
        };
        self.all.requests.get_or_create(&labels).inc();
    }

    /// Counts what a plugin's call cost.
    pub fn plugin_call(&self, stage: Stage, cpu: Duration) {
        let [preprocess, postprocess] = &self.cpu;
        let seconds = if stage == Stage::Preprocess { preprocess } else { postprocess };
        if let Some(seconds) = seconds {
            seconds.inc_by(cpu.as_secs_f64());
        }
    }

    /// Notes how queue, workers and instances stand, just before they are read.
    pub fn observe(
        &self,
        waiting: usize,
        (workers, busy): (usize, usize),
        memory: u64,
        pool: Option<PoolStatus>,
    ) {
        self.all.memory.uses(&self.labels.model, &self.labels.version, memory);
        let all = &self.all;
        all.waiting.get_or_create(&self.labels).set(gauge(waiting));
        all.workers.get_or_create(&self.labels).set(gauge(workers));
        all.workers_busy.get_or_create(&self.labels).set(gauge(busy));
        let Some(pool) = pool else {
            return;
        };
        all.instances.get_or_create(&self.labels).set(gauge(pool.instances));
        let mut observed = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
        let (created, broken) = *observed;
        let (created, broken) = (pool.created.max(created), pool.broken.max(broken));
        all.instances_created.get_or_create(&self.labels).inc_by(created - observed.0);
        all.instances_broken.get_or_create(&self.labels).inc_by(broken - observed.1);
        *observed = (created, broken);
    }
}
