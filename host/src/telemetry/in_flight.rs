//! How many requests are being served.
//!
//! Owns that each counts for as long as it is held, whatever way it ends.

use prometheus_client::metrics::gauge::Gauge;

/// A request that is being served.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl InFlight {
    /// One more.
    pub(super) fn enter(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
