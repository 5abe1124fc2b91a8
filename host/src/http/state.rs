//! What every handler may see.
//!
//! Owns nothing that a reload changes: the index inside swaps its own content.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use http::HeaderName;

use super::admin::AdminAccess;
use super::body::BodyBounds;
use super::status::Turns;
use crate::auth::Gate;
use crate::config::ErrorDetails;
use crate::repository::{KeeperHandle, ModelIndex, Steering};
use crate::telemetry::{Audit, Metrics};

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

/// What operators may do to what is served.
#[derive(Clone, Debug)]
pub struct Control {
    /// Loads and unloads.
    pub keeper: KeeperHandle,
    /// Moves traffic.
    pub steering: Steering,
}

/// What the handlers work with, and within which bounds.
#[derive(Debug)]
pub struct AppParts {
    /// What is served.
    pub index: Arc<ModelIndex>,
    /// Where requests count.
    pub metrics: Arc<Metrics>,
    /// Whether requests are wanted.
    pub lifecycle: Arc<Lifecycle>,
    /// What operators may do.
    pub control: Control,
    /// Where operators may ask.
    pub admin: AdminAccess,
    /// Who may ask at all, and how much.
    pub gate: Gate,
    /// Where it is kept what operators did.
    pub audit: Audit,
    /// Bytes of a request's body.
    pub max_body: usize,
    /// How bodies are read.
    pub bodies: BodyBounds,
    /// Who sees what a plugin that broke down left behind.
    pub error_details: ErrorDetails,
    /// From a request's head to its answer.
    pub request_timeout: Duration,
    /// The request headers that plugins see.
    pub forwarded_headers: Vec<HeaderName>,
    /// One line in the log for each request.
    pub access_log: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct AppState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    parts: AppParts,
    turns: Turns,
}

impl AppState {
    /// One state for all listeners.
    pub fn new(parts: AppParts) -> Self {
        Self(Arc::new(Shared { parts, turns: Turns::default() }))
    }

    /// Who may ask for the metrics.
    pub(super) fn turns(&self) -> &Turns {
        &self.0.turns
    }

    pub(super) fn index(&self) -> &ModelIndex {
        &self.0.parts.index
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.parts.metrics
    }

    pub(super) fn lifecycle(&self) -> &Lifecycle {
        &self.0.parts.lifecycle
    }

    pub(super) fn keeper(&self) -> &KeeperHandle {
        &self.0.parts.control.keeper
    }

    pub(super) fn steering(&self) -> &Steering {
        &self.0.parts.control.steering
    }

    pub(super) fn admin(&self) -> &AdminAccess {
        &self.0.parts.admin
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.0.parts.gate
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.0.parts.audit
    }

    pub(super) fn max_body(&self) -> usize {
        self.0.parts.max_body
    }

    pub(super) fn bodies(&self) -> &BodyBounds {
        &self.0.parts.bodies
    }

    pub(super) fn error_details(&self) -> ErrorDetails {
        self.0.parts.error_details
    }

    pub(super) fn request_timeout(&self) -> Duration {
        self.0.parts.request_timeout
    }

    pub(super) fn forwarded_headers(&self) -> &[HeaderName] {
        &self.0.parts.forwarded_headers
    }

    pub(super) fn access_log(&self) -> bool {
        self.0.parts.access_log
    }
}
