//! The Open Inference Protocol, version 2, on HTTP.
//!
//! Owns its routes and the shape of its answers. Each fact of the protocol is in one file: health,
//! metadata and configuration in [`describe`], bodies of inference in [`codec`] and [`wire`].

pub mod codec;
pub(crate) mod describe;
mod health;
pub(crate) mod infer;
pub(crate) mod wire;

use axum::Router;
use axum::routing::{get, post};

use super::state::AppState;

/// How the server and its repository are: for clients and operators.
pub(super) fn health_routes() -> Router<AppState> {
    Router::new()
        .route("/v2/health/live", get(health::live))
        .route("/v2/health/ready", get(health::ready))
        .route("/v2/repository/index", post(describe::index))
}

/// The routes below `/v2`.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/v2", get(describe::server))
        .route("/v2/", get(describe::server))
        .merge(health_routes())
        .route("/v2/models", get(describe::models))
        .route("/v2/models/{model}", get(describe::model))
        .route("/v2/models/{model}/ready", get(health::model_ready))
        .route("/v2/models/{model}/config", get(describe::config))
        .route("/v2/models/{model}/infer", post(infer::infer))
        .route("/v2/models/{model}/versions/{version}", get(describe::model))
        .route("/v2/models/{model}/versions/{version}/ready", get(health::model_ready))
        .route("/v2/models/{model}/versions/{version}/config", get(describe::config))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer::infer))
}
