//! What every handler may see.
//!
//! Owns nothing that a reload changes: the index inside swaps its own content.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use http::HeaderName;

use crate::repository::ModelIndex;
use crate::telemetry::Metrics;

/// Whether the server wants requests. A load balancer reads it as readiness.
#[derive(Debug, Default)]
pub struct Lifecycle {
    loaded: AtomicBool,
    draining: AtomicBool,
}

impl Lifecycle {
    /// All versions have been loaded, or have failed.
    pub fn set_loaded(&self) {
        self.loaded.store(true, Relaxed);
    }

    /// The server is about to stop.
    pub fn set_draining(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Whether new requests are welcome.
    pub fn is_ready(&self) -> bool {
        self.loaded.load(Relaxed) && !self.draining.load(Relaxed)
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct AppState(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    index: Arc<ModelIndex>,
    metrics: Arc<Metrics>,
    lifecycle: Arc<Lifecycle>,
    max_body: usize,
    request_timeout: Duration,
    forwarded_headers: Vec<HeaderName>,
    access_log: bool,
}

impl AppState {
    /// Requests take at most `request_timeout` and `max_body` bytes; `forwarded_headers` are the
    /// request headers that plugins see.
    pub fn new(
        index: Arc<ModelIndex>,
        metrics: Arc<Metrics>,
        lifecycle: Arc<Lifecycle>,
        (max_body, request_timeout): (usize, Duration),
        forwarded_headers: Vec<HeaderName>,
        access_log: bool,
    ) -> Self {
        Self(Arc::new(Inner {
            index,
            metrics,
            lifecycle,
            max_body,
            request_timeout,
            forwarded_headers,
            access_log,
        }))
    }

    pub(super) fn index(&self) -> &ModelIndex {
        &self.0.index
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(super) fn lifecycle(&self) -> &Lifecycle {
        &self.0.lifecycle
    }

    pub(super) fn max_body(&self) -> usize {
        self.0.max_body
    }

    pub(super) fn request_timeout(&self) -> Duration {
        self.0.request_timeout
    }

    pub(super) fn forwarded_headers(&self) -> &[HeaderName] {
        &self.0.forwarded_headers
    }

    pub(super) fn access_log(&self) -> bool {
        self.0.access_log
    }
}
