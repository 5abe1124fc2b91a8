//! Who asks: in front of every method, but for health.
//!
//! Owns which methods need nobody's name. Who somebody is, and what a caller may do, is judged as on HTTP; metadata are
//! headers.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tonic::Extensions;

use super::arriving::exhausted;
use super::failure;
use crate::auth::{Caller, Need};
use crate::error::{Error, ErrorCode};
use crate::http::authorise::let_in;
use crate::http::front::Settled;
use crate::http::open::is_health;
use crate::http::state::AppState;
use crate::http::target::Target;

/// Gives the call its caller, or refuses it. What the door has settled is answered here.
pub(super) async fn authorise(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    if let Some(settled) = Settled::take(request.extensions_mut()) {
        let error = settled.into_error();
        let error = if error.code == ErrorCode::Unavailable { exhausted(error) } else { error };
        return failure::status(&error, None).into_http();
    }
    if is_health(request.uri().path()) {
        return next.run(request).await;
    }
    let_in(&state, request, next, |error| failure::status(&error, None).into_http()).await
}

/// The caller of a call.
///
/// # Errors
/// `Internal` for one that did not come through [`authorise`]: it is never let in by accident.
pub(super) fn caller(extensions: &Extensions) -> Result<Caller, Error> {
    extensions.get().cloned().ok_or_else(|| Error::internal("the host has not asked who asks"))
}

/// What a message names, if the caller may ask for it. That is judged by the name alone, so that who may not does not
/// learn whether there is such a model.
///
/// # Errors
/// Those of `Caller::require`, and `InvalidArgument` if the version is named twice.
pub(super) fn target(caller: &Caller, model: &str, version: &str) -> Result<Target, Error> {
    let target = Target::named(model, version)?;
    caller.require(Need::Predict(&target.model))?;
    Ok(target)
}
