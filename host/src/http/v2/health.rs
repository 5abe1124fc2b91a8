//! Health: is the process alive, does it want requests, is a model ready.
//!
//! Owns the bodies. Clients differ in what they read: tritonclient looks at the status alone, KServe's
//! at the body; both are served.

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use crate::error::{Error, ErrorCode};
use crate::http::openapi::schemas;
use crate::http::reply;
use crate::http::state::AppState;
use crate::http::target::Target;

#[utoipa::path(
    get,
    path = "/v2/health/live",
    tag = "v2",
    responses((status = 200, description = "answered", body = schemas::Live))
)]
pub(in crate::http) async fn live() -> Response {
    reply::ok(&json!({"live": true}))
}

#[utoipa::path(
    get,
    path = "/v2/health/ready",
    tag = "v2",
    responses((status = 200, description = "answered", body = schemas::Ready), (status = 503, description = "it is not ready", body = schemas::Ready))
)]
pub(in crate::http) async fn ready(State(state): State<AppState>) -> Response {
    let ready = state.lifecycle().is_ready();
    let body = json!({"ready": ready});
    if ready { reply::ok(&body) } else { reply::not_ready(&body) }
}

/// 200 or 503; 404 for a model that is not there at all. One that is loaded on demand is ready: a request for it is
/// answered. Asking loads nothing.
#[utoipa::path(
    get,
    path = "/v2/models/{model}/ready",
    tag = "v2",
    params(("model" = String, Path, description = "the model's name, or `name@version`")),
    responses((status = 200, description = "answered", body = schemas::ModelReady), (status = 503, description = "it is not ready", body = schemas::ModelReady))
)]
pub(in crate::http) async fn model_ready(
    State(state): State<AppState>,
    target: Target,
) -> Result<Response, Error> {
    match state.index().find(&target.model, target.version.as_deref()) {
        Ok(_) => Ok(reply::ok(&json!({"name": target.model, "ready": true}))),
        Err(error) if error.code == ErrorCode::Unavailable => {
            let body = json!({"name": target.model, "ready": false, "error": error.message});
            Ok(reply::not_ready(&body))
        }
        Err(error) => Err(error),
    }
}
