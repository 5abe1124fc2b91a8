//! The series of the door: connections that were ended, requests that were not let in, memory, certificates.
//!
//! Owns their names and reasons' label.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{OutcomeLabels, gauge};
use crate::tls::TlsEvents;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// The series of the door.
#[derive(Clone, Debug, Default)]
pub struct FrontMetrics {
    ended: Family<ReasonLabels, Counter>,
    refused: Family<ReasonLabels, Counter>,
    memory: Gauge,
    expiry: Gauge,
    reloads: Family<OutcomeLabels, Counter>,
}

impl FrontMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "http_connections_ended",
            "Connections that the host ended, by reason",
            self.ended.clone(),
        );
        registry.register(
            "http_refused",
            "Requests that were refused before any handler saw them, by reason",
            self.refused.clone(),
        );
        registry.register(
            "http_memory_bytes",
            "Bytes that requests hold, of server.max_memory",
            self.memory.clone(),
        );
        registry.register(
            "tls_certificate_expiry_timestamp_seconds",
            "When the certificate in effect ends, in Unix time; 0 without TLS",
            self.expiry.clone(),
        );
        registry.register("tls_reloads", "Changes of the TLS files, by outcome", self.reloads.clone());
    }

    /// Counts a connection that the host ended.
    pub fn ended(&self, reason: &'static str) {
        self.ended.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Counts a request that was not let in.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Notes how many bytes requests hold, and how often since the start some were refused.
    pub fn memory(&self, bytes: usize, refused: u64) {
        self.memory.set(gauge(bytes));
        let counter = self.refused.get_or_create_owned(&ReasonLabels { reason: "memory" });
        counter.inc_by(refused.saturating_sub(counter.get()));
    }
}

impl TlsEvents for FrontMetrics {
    fn in_effect(&self, not_after: i64) {
        self.expiry.set(not_after);
    }

    fn reloaded(&self, taken: bool) {
        let outcome = if taken { "ok" } else { "failed" };
        self.reloads.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}
