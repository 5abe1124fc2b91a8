//! `GET /metrics`.
//!
//! Owns the moment at which queues and pools are looked at: when they are asked for.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header;

use super::state::AppState;
use crate::error::Error;
use crate::repository::Steering;

const TEXT_FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(State(state): State<AppState>) -> Response {
    let observe = || {
        for generation in state.index().generations() {
            generation.observe();
        }
        state.metrics().front().memory(state.bodies().memory.used());
        Steering::observe(state.index(), state.metrics());
    };
    match state.metrics().encode(observe) {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(_) => Error::internal("the metrics cannot be written").into_response(),
    }
}
