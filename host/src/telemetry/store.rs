//! The metrics of Redis.
//!
//! Owns their names and labels. They exist only where Redis is configured.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::labels::OutcomeLabels;
use super::metrics::Metrics;

/// Upper bounds in seconds: from a server on this machine to one that hangs.
const BUCKETS: [f64; 13] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0];

/// The series of one connection to Redis.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    up: Gauge,
    openings: Counter,
    connects: Family<OutcomeLabels, Counter>,
    requests: Family<OutcomeLabels, Counter>,
    duration: Histogram,
    /// Resolved once: nearly all requests are answered.
    answered: Counter,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        let requests = Family::<OutcomeLabels, Counter>::default();
        Self {
            answered: requests.get_or_create_owned(&OutcomeLabels { outcome: "ok" }),
            requests,
            up: Gauge::default(),
            openings: Counter::default(),
            connects: Family::default(),
            duration: Histogram::new(BUCKETS),
        }
    }
}

impl Metrics {
    /// The series of Redis, which are shown from now on; to be called once.
    pub fn redis(&self) -> StoreMetrics {
        let metrics = StoreMetrics::default();
        metrics.register(&mut self.registry());
        metrics
    }
}

impl StoreMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("redis_up", "1 while Redis is asked, 0 while the breaker is open", self.up.clone());
        registry.register(
            "redis_breaker_openings",
            "Times that Redis was given up for a while",
            self.openings.clone(),
        );
        registry.register("redis_connects", "Tries to connect to Redis, by outcome", self.connects.clone());
        registry.register(
            "redis_requests",
            "Commands for Redis by outcome: ok, timed_out, lost, refused, garbage, or open for those not sent",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "redis_request_duration",
            "Time of commands that were sent to Redis",
            Unit::Seconds,
            self.duration.clone(),
        );
    }

    /// Notes whether Redis is asked.
    pub fn up(&self, is_up: bool) {
        self.up.set(i64::from(is_up));
    }

    /// Redis is not asked any more.
    pub fn opened(&self) {
        self.up.set(0);
        self.openings.inc();
    }

    /// Counts a try to connect.
    pub fn connected(&self, ok: bool) {
        let outcome = if ok { "ok" } else { "failed" };
        self.connects.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts a command that was answered.
    pub fn answered(&self, took: Duration) {
        self.answered.inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts a command that failed; `None` if it was not sent.
    pub fn failed(&self, outcome: &'static str, took: Option<Duration>) {
        self.requests.get_or_create(&OutcomeLabels { outcome }).inc();
        if let Some(took) = took {
            self.duration.observe(took.as_secs_f64());
        }
    }
}
