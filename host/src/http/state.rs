//! What every handler may see.
//!
//! Owns nothing that a reload changes: the index inside swaps its own content.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use tokio::sync::watch;

use super::admin::AdminAccess;
use super::compression::AnswerOptions;
use super::cors::CorsRules;
use super::server_timing::ServerTiming;
use crate::auth::Gate;
use crate::repository::{KeeperHandle, ModelIndex, Steering};
use crate::telemetry::{Audit, LogControl, Metrics};

/// How far the server is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    #[default]
    Starting,
    Ready,
    Draining,
    Stopping,
}

/// Whether the server wants requests. A load balancer reads it as readiness.
#[derive(Debug, Default)]
pub struct Lifecycle(watch::Sender<Phase>);

impl Lifecycle {
    /// All versions have been loaded, or have failed.
    pub fn set_loaded(&self) {
        self.enter(Phase::Ready);
    }

    /// The server is about to stop.
    pub fn set_draining(&self) {
        self.enter(Phase::Draining);
    }

    /// New connections are refused; what is in flight finishes.
    pub fn set_stopping(&self) {
        self.enter(Phase::Stopping);
    }

    /// Phases come one after another, and never back.
    fn enter(&self, phase: Phase) {
        self.0.send_if_modified(|present| {
            let is_later = *present < phase;
            *present = phase.max(*present);
            is_later
        });
    }

    /// Whether new requests are welcome.
    pub fn is_ready(&self) -> bool {
        *self.0.borrow() == Phase::Ready
    }

    /// Whether only what is in flight is still answered.
    pub fn is_stopping(&self) -> bool {
        *self.0.borrow() == Phase::Stopping
    }

    /// Completes when readiness is no longer `ready`; at once if it is not. Not after the server was told to stop:
    /// it never comes back then.
    pub async fn changed_from(&self, ready: bool) {
        // The sender is this one's own: it is there for as long as somebody waits.
        let mut phases = self.0.subscribe();
        let _changed = phases.wait_for(|phase| (*phase == Phase::Ready) != ready).await;
    }

    /// Completes when only what is in flight is still answered.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut phases = self.0.subscribe();
        async move {
            let _stopping = phases.wait_for(|phase| *phase == Phase::Stopping).await;
        }
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
    /// Bytes of a gRPC message, and of what it expands to.
    pub max_message: usize,
    /// From a request's head to its answer.
    pub request_timeout: Duration,
    /// The request headers that plugins see.
    pub forwarded_headers: Vec<HeaderName>,
    /// One line in the log for each request.
    pub access_log: bool,
    /// Which answers go compressed.
    pub compression: AnswerOptions,
    /// Which web pages may ask.
    pub cors: Option<CorsRules>,
    /// Who is told where the time went.
    pub server_timing: ServerTiming,
    /// Changes what is logged.
    pub log: LogControl,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct AppState(Arc<AppParts>);

impl AppState {
    /// One state for all listeners.
    pub fn new(parts: AppParts) -> Self {
        Self(Arc::new(parts))
    }

    pub(crate) fn index(&self) -> &ModelIndex {
        &self.0.index
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.0.lifecycle
    }

    pub(crate) fn keeper(&self) -> &KeeperHandle {
        &self.0.control.keeper
    }

    pub(crate) fn steering(&self) -> &Steering {
        &self.0.control.steering
    }

    pub(crate) fn admin(&self) -> &AdminAccess {
        &self.0.admin
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.0.gate
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.0.audit
    }

    pub(crate) fn max_body(&self) -> usize {
        self.0.max_body
    }

    pub(crate) fn max_message(&self) -> usize {
        self.0.max_message
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.0.request_timeout
    }

    pub(crate) fn forwarded_headers(&self) -> &[HeaderName] {
        &self.0.forwarded_headers
    }

    pub(crate) fn access_log(&self) -> bool {
        self.0.access_log
    }

    pub(super) fn compression(&self) -> AnswerOptions {
        self.0.compression
    }

    pub(super) fn cors(&self) -> Option<&CorsRules> {
        self.0.cors.as_ref()
    }

    pub(super) fn server_timing(&self) -> ServerTiming {
        self.0.server_timing
    }

    pub(super) fn log(&self) -> &LogControl {
        &self.0.log
    }
}
