//! The metrics of what nodes share by Redis: API keys and limits.
//!
//! Owns their names and labels. They exist only where Redis is configured.

use std::time::SystemTime;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{OutcomeLabels, gauge};
use super::metrics::Metrics;

/// The series of API keys and limits that nodes share.
#[derive(Clone, Debug, Default)]
pub struct SharedAuthMetrics {
    confirmed: Gauge,
    keys: Gauge,
    exchanges: Family<OutcomeLabels, Counter>,
    rates: Counter,
}

impl Metrics {
    /// The series of API keys and limits that nodes share, which are shown from now on; to be called once.
    pub fn shared_auth(&self) -> SharedAuthMetrics {
        let metrics = SharedAuthMetrics::default();
        metrics.register(&mut self.registry());
        metrics
    }
}

impl SharedAuthMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "auth_keys_confirmed_timestamp_seconds",
            "When Redis last told the API keys, in Unix time; 0 for never",
            self.confirmed.clone(),
        );
        registry.register("auth_shared_keys", "API keys known from Redis", self.keys.clone());
        registry.register(
            "limits_exchanges",
            "Exchanges of the use of limits with Redis, by outcome",
            self.exchanges.clone(),
        );
        registry.register("limits_rates_shared", "Rates told to other nodes", self.rates.clone());
    }

    /// Notes that Redis has told the keys.
    pub fn keys_confirmed(&self, now: SystemTime, keys: usize) {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.confirmed.set(gauge(seconds));
        self.keys.set(gauge(keys));
    }

    /// Counts an exchange of so many rates.
    pub fn exchanged(&self, outcome: &'static str, rates: usize) {
        self.exchanges.get_or_create(&OutcomeLabels { outcome }).inc();
        self.rates.inc_by(rates as u64);
    }
}
