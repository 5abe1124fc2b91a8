//! Who may load and unload by gRPC: the same people as by HTTP.
//!
//! Owns which methods are an operator's. The rule is `http::admin::access`'s.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::failure;
use crate::http::admin::access::{check_at_own, check_at_shared};
use crate::http::state::AppState;

/// The listener that a call came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One for all requests, which only this machine can reach or not.
    Everyone {
        /// Only this machine can reach it.
        is_loopback: bool,
    },
    /// The one for operators.
    Operators,
}

/// The methods that change what is served.
const METHODS: [&str; 2] = ["/RepositoryModelLoad", "/RepositoryModelUnload"];

pub(super) async fn guard(
    State((state, place)): State<(AppState, Place)>,
    request: Request,
    next: Next,
) -> Response {
    if !METHODS.iter().any(|method| request.uri().path().ends_with(method)) {
        return next.run(request).await;
    }
    let (headers, uri) = (request.headers(), request.uri());
    let checked = match place {
        Place::Everyone { is_loopback } => check_at_shared(&state, is_loopback, headers, uri),
        Place::Operators => check_at_own(&state, headers, uri),
    };
    match checked {
        Ok(()) => next.run(request).await,
        Err(error) => failure::status(&error, None).into_http(),
    }
}
