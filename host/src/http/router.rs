//! Which handler answers which path.
//!
//! Owns the table of routes and the answers for what is not in it.

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use super::admin::access::{at_own_listener, at_shared_listener};
use super::state::AppState;
use super::{access, admin, authorise, details, predict, status, v2};
use crate::error::{Error, ErrorCode};

/// The routes of the listener for all.
pub fn router(state: AppState) -> Router {
    let operators = admin::routes().route_layer(from_fn_with_state(state.clone(), at_shared_listener));
    let routes = Router::new()
        .route("/predict/{model}", post(predict::predict))
        .route("/predict/{model}/{version}", post(predict::predict))
        .route("/metrics", get(status::metrics))
        .merge(v2::routes())
        .merge(operators);
    finish(routes, state)
}

/// The routes of the listener for operators.
pub fn admin_router(state: AppState) -> Router {
    let routes = Router::new()
        .merge(admin::routes().route_layer(from_fn_with_state(state.clone(), at_own_listener)))
        .merge(v2::health_routes())
        .route("/metrics", get(status::metrics));
    finish(routes, state)
}

fn finish(routes: Router<AppState>, state: AppState) -> Router {
    routes
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(state.clone(), authorise::authorise))
        .layer(from_fn_with_state(state.clone(), details::disclose))
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
