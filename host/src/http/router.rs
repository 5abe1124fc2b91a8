//! Which handler answers which path.
//!
//! Owns the table of routes and the answers for what is not in it.

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::header;

use super::admin::access::{at_own_listener, at_shared_listener};
use super::state::AppState;
use super::{access, admin, authorise, cors, details, openapi, predict, status, v1, v2};
use crate::error::{Error, ErrorCode};

/// The routes of the listener for all.
pub fn router(state: AppState) -> Router {
    let operators = admin::routes().route_layer(from_fn_with_state(state.clone(), at_shared_listener));
    let routes = Router::new()
        .route("/predict/{model}", post(predict::predict))
        .route("/predict/{model}/{version}", post(predict::predict))
        .route("/metrics", get(status::metrics))
        .merge(openapi::routes())
        .merge(v1::routes())
        .merge(v2::routes())
        .merge(operators)
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method);
    finish(routes, state, true)
}

/// The routes of the listener for operators.
pub fn admin_router(state: AppState) -> Router {
    let routes = Router::new()
        .merge(admin::routes().route_layer(from_fn_with_state(state.clone(), at_own_listener)))
        .merge(v2::health_routes())
        .route("/metrics", get(status::metrics))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method);
    finish(routes, state, false)
}

/// `shared`: pages of other origins may ask here, where there are rules for them.
fn finish(routes: Router<AppState>, state: AppState, shared: bool) -> Router {
    let routes = routes
        .layer(from_fn_with_state(state.clone(), authorise::authorise))
        .layer(from_fn_with_state(state.clone(), details::disclose));
    // Browsers show nothing when they ask whether a page may ask. A layer only where there are rules: it costs each
    // request a little.
    let routes = match state.cors().filter(|_| shared) {
        Some(_) => routes.layer(from_fn_with_state(state.clone(), cors::share)),
        None => routes,
    };
    routes.layer(from_fn_with_state(state.clone(), access::record)).with_state(state)
}

async fn unknown_path(request: Request) -> Error {
    let path: String = request.uri().path().chars().take(200).collect();
    Error::new(ErrorCode::NotFound, format!("there is nothing at {path}; see /v2 and /predict/{{model}}"))
}

async fn wrong_method(request: Request) -> Response {
    let path: String = request.uri().path().chars().take(200).collect();
    let message = format!("{path} does not take {}", request.method());
    let mut response = Error::new(ErrorCode::MethodNotAllowed, message).into_response();
    // What the table of routes says is added where this has no word of its own.
    if let Some(allowed) = v1::allowed(request.uri().path()) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}
