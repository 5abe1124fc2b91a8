//! `GET /metrics`.
//!
//! Owns the moment at which queues and pools are looked at, when they are asked for, and who may ask at a time.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header;
use tokio::sync::Semaphore;

use super::authorise::Asker;
use super::state::AppState;
use crate::auth::Need;
use crate::error::{Error, ErrorCode};
use crate::repository::Steering;

const TEXT_FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writing all series takes as long as hundreds of small requests do: one at a time, and so many wait for it.
#[derive(Debug)]
pub(super) struct Turns(Semaphore, AtomicUsize);

/// The most that wait.
const WAITING: usize = 64;

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(1), AtomicUsize::new(0))
    }
}

/// Somebody who waits for the turn.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[utoipa::path(
    get,
    path = "/metrics",
    tag = "metrics",
    responses((status = 200, description = "all series, in OpenMetrics' text form", body = String, content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"))
)]
pub(super) async fn metrics(State(state): State<AppState>, Asker(caller): Asker) -> Result<Response, Error> {
    caller.require(Need::Metrics)?;
    let Turns(turn, waiting) = state.turns();
    let before = waiting.fetch_add(1, Relaxed);
    let _waits = Waits(waiting);
    if before >= WAITING {
        let message = "too many ask for the metrics at the same time; try again";
        return Err(Error::new(ErrorCode::Unavailable, message));
    }
    let _turn = turn.acquire().await;
    let observe = || {
        for generation in state.index().generations() {
            generation.observe();
        }
        let memory = &state.bodies().memory;
        state.metrics().front().memory(memory.used(), memory.refused());
        state.cache().observe();
        Steering::observe(state.index(), state.metrics());
        state.nodes().observe();
    };
    match state.metrics().encode(observe) {
        Ok(text) => Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response()),
        Err(_) => Err(Error::internal("the metrics cannot be written")),
    }
}
