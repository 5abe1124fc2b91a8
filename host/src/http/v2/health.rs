//! Health: is the process alive, does it want requests, is a model ready.
//!
//! Owns the bodies. Clients differ in what they read: tritonclient looks at the status alone, KServe's
//! at the body; both are served.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use crate::error::{Error, ErrorCode};
use crate::http::reply;
use crate::http::state::AppState;
use crate::http::target::Target;

pub(super) async fn live() -> Response {
    reply::json(StatusCode::OK, &json!({"live": true}))
}

pub(super) async fn ready(State(state): State<AppState>) -> Response {
    let ready = state.lifecycle().is_ready();
    reply::json(status(ready), &json!({"ready": ready}))
}

/// 200 or 503; 404 for a model that is not there at all. One that is loaded on demand is ready: a request for it is
/// answered. Asking loads nothing.
pub(super) async fn model_ready(State(state): State<AppState>, target: Target) -> Result<Response, Error> {
    match state.index().find(&target.model, target.version.as_deref()) {
        Ok(_) => Ok(reply::json(StatusCode::OK, &json!({"name": target.model, "ready": true}))),
        Err(error) if error.code == ErrorCode::Unavailable => {
            let body = json!({"name": target.model, "ready": false, "error": error.message});
            Ok(reply::json(StatusCode::SERVICE_UNAVAILABLE, &body))
        }
        Err(error) => Err(error),
    }
}

const fn status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
