//! What every handler may see.
//!
//! Owns nothing that a reload changes: the index inside swaps its own content.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use tokio::sync::watch;

use super::admin::AdminAccess;
use super::body::BodyBounds;
use super::compression::AnswerOptions;
use super::cors::CorsRules;
use super::server_timing::ServerTiming;
use super::status::Turns;
use crate::auth::Gate;
use crate::cache::Cache;
use crate::config::ErrorDetails;
use crate::nodes::Nodes;
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

    /// How far it is, in a word.
    pub fn as_str(&self) -> &'static str {
        match *self.0.borrow() {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Draining => "draining",
            Phase::Stopping => "stopping",
        }
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
    /// Knows the other nodes.
    pub nodes: Arc<Nodes>,
}

/// What the handlers work with, and within which bounds.
#[derive(Debug)]
pub struct AppParts {
    /// What is served.
    pub index: Arc<ModelIndex>,
    /// Where requests count.
    pub metrics: Arc<Metrics>,
    /// The answers that are remembered.
    pub cache: Cache,
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
    /// Bytes of a gRPC message, and of what it expands to.
    pub max_message: usize,
    /// From a request's head to its answer.
    pub request_timeout: Duration,
    /// How long nothing may come or go on a stream.
    pub idle_timeout: Duration,
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

    pub(crate) fn index(&self) -> &ModelIndex {
        &self.0.parts.index
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.0.parts.metrics
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.0.parts.cache
    }

    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.0.parts.lifecycle
    }

    pub(crate) fn keeper(&self) -> &KeeperHandle {
        &self.0.parts.control.keeper
    }

    pub(crate) fn steering(&self) -> &Steering {
        &self.0.parts.control.steering
    }

    pub(crate) fn nodes(&self) -> &Nodes {
        &self.0.parts.control.nodes
    }

    pub(crate) fn admin(&self) -> &AdminAccess {
        &self.0.parts.admin
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.0.parts.gate
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.0.parts.audit
    }

    pub(crate) fn max_body(&self) -> usize {
        self.0.parts.max_body
    }

    pub(crate) fn max_message(&self) -> usize {
        self.0.parts.max_message
    }

    pub(crate) fn bodies(&self) -> &BodyBounds {
        &self.0.parts.bodies
    }

    pub(crate) fn error_details(&self) -> ErrorDetails {
        self.0.parts.error_details
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.0.parts.request_timeout
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        self.0.parts.idle_timeout
    }

    pub(crate) fn forwarded_headers(&self) -> &[HeaderName] {
        &self.0.parts.forwarded_headers
    }

    pub(crate) fn access_log(&self) -> bool {
        self.0.parts.access_log
    }

    pub(super) fn compression(&self) -> AnswerOptions {
        self.0.parts.compression
    }

    pub(super) fn cors(&self) -> Option<&CorsRules> {
        self.0.parts.cors.as_ref()
    }

    pub(super) fn server_timing(&self) -> ServerTiming {
        self.0.parts.server_timing
    }

    pub(super) fn log(&self) -> &LogControl {
        &self.0.parts.log
    }
}
