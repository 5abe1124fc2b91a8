//! Which handler answers which path.
//!
//! Owns the table of routes and the answers for what is not in it.

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use super::state::AppState;
use super::{access, predict, status, v2};
use crate::error::{Error, ErrorCode};

/// All routes over one state.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route("/predict/{model}", post(predict::predict))
        .route("/predict/{model}/{version}", post(predict::predict))
        .route("/metrics", get(status::metrics))
        .merge(v2::routes())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(state.clone(), access::record))
        .with_state(state)
}

async fn unknown_path(request: Request) -> Error {
    let path: String = request.uri().path().chars().take(200).collect();
    Error::new(ErrorCode::NotFound, format!("there is nothing at {path}; see /v2 and /predict/{{model}}"))
}

async fn wrong_method(request: Request) -> Error {
    let path: String = request.uri().path().chars().take(200).collect();
    Error::new(ErrorCode::MethodNotAllowed, format!("{path} does not take {}", request.method()))
}
