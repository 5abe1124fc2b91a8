//! Who may load and unload by gRPC: the same people as by HTTP.
//!
//! Owns which methods are an operator's. The rule is `http::admin::access`'s.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tonic::{Code, Status};

use super::failure;
use super::router::SMALL;
use crate::http::admin::access::{Wording, at_shared, guarded, own_is_loopback};
use crate::http::reply::Failed;
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

/// Errors as gRPC tells them.
const GRPC: Wording = Wording {
    refuse: |error| failure::status(&error, None).into_http(),
    failed: |response| {
        let status = response.extensions().get::<Status>().filter(|status| status.code() != Code::Ok)?;
        Some(Failed(failure::translate(status, SMALL)))
    },
};

pub(super) async fn guard(
    State((state, place)): State<(AppState, Place)>,
    request: Request,
    next: Next,
) -> Response {
    if !METHODS.iter().any(|method| request.uri().path().ends_with(method)) {
        return next.run(request).await;
    }
    let found = match place {
        Place::Everyone { is_loopback } => at_shared(&state, Some(is_loopback), request.uri()),
        Place::Operators => Ok(own_is_loopback(&state)),
    };
    guarded(&state, found, request, next, GRPC).await
}
