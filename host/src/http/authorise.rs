//! Who asks: in front of every route, but for health.
//!
//! Owns the one place in which an HTTP request gets its caller, and the headers that tell a caller how it stands with
//! its rate (`RateLimit-Policy` and `RateLimit`, as in draft-ietf-httpapi-ratelimit-headers-10). What a caller may do is
//! asked where it is known what is wanted: [`Asker`] for a handler, `target` for a model, `admin` for operators.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::front::Settled;
use super::open::is_health;
use super::reply::whole_seconds;
use super::state::AppState;
use crate::auth::{Caller, Origin, Refusal, Standing};
use crate::error::Error;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Gives the request its caller, or refuses it. What the door has settled is answered here.
pub(super) async fn authorise(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    if let Some(settled) = Settled::take(request.extensions_mut()) {
        return settled.answer();
    }
    if is_health(request.uri().path()) {
        return next.run(request).await;
    }
    let_in(&state, request, next, Error::into_response).await
}

/// Gives a request of either protocol its caller, or refuses it in the protocol's own form.
pub(crate) async fn let_in(
    state: &AppState,
    mut request: Request,
    next: Next,
    refuse: fn(Error) -> Response,
) -> Response {
    let peer = origin(request.extensions().get());
    match state.gate().enter(request.headers_mut(), &peer).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller.clone());
            let mut response = next.run(request).await;
            tell(response.headers_mut(), caller.standing());
            response.extensions_mut().insert(caller);
            response
        }
        Err(Refusal { error, standing }) => {
            let mut response = refuse(error);
            tell(response.headers_mut(), standing.as_ref());
            response
        }
    }
}

/// Where a request comes from, or nowhere.
pub(crate) fn origin(peer: Option<&Origin>) -> Origin {
    let nowhere = || Origin { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), certificate: None };
    peer.cloned().unwrap_or_else(nowhere)
}

fn tell(headers: &mut HeaderMap, standing: Option<&Standing>) {
    let Some(standing) = standing else {
        return;
    };
    let policy = format!("\"requests\";q={};w={}", standing.burst, whole_seconds(standing.window));
    let left = format!("\"requests\";r={};t={}", standing.left, standing.reset.as_secs_f64().ceil());
    for (name, text) in [(POLICY, policy), (LIMIT, left)] {
        headers.extend(HeaderValue::try_from(text).ok().map(|value| (name, value)));
    }
}

/// The caller of a request that has come in.
#[derive(Clone, Debug)]
pub(super) struct Asker(pub(super) Caller);

impl Asker {
    /// The caller of a request.
    ///
    /// # Errors
    /// `Internal` for one that did not come through [`authorise`]: it is never let in by accident.
    pub(super) fn of(parts: &Parts) -> Result<Self, Error> {
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.map(Self).ok_or_else(|| Error::internal("the host has not asked who asks"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        Self::of(parts)
    }
}
