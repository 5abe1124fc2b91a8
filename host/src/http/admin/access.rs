//! Where an operator may ask, and where not.
//!
//! Owns the rule that `/admin`, loading and unloading are served only where strangers cannot reach them, and
//! that no web page of another origin can ask by way of an operator's browser; where callers say who they are, that only
//! those with the scope `admin` ask; and that it is kept who did what.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, resume_unwind};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::{HeaderMap, Uri, header};

use crate::auth::{Caller, Need, Origin};
use crate::error::{Error, ErrorCode, shown};
use crate::http::reply::Failed;
use crate::http::state::AppState;
use crate::telemetry::AuditEntry;

/// Which listener serves operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAccess {
    /// The one of all requests: only this machine can reach it, or callers have to say who they are.
    Shared {
        /// Only this machine can reach it.
        is_loopback: bool,
    },
    /// One of its own, at this address.
    Own {
        /// As the configuration has it.
        address: String,
        /// Only this machine can reach it.
        is_loopback: bool,
    },
    /// None: others can reach the one listener that there is.
    Off,
}

/// In front of the operator's routes at the listener of all requests.
pub(in crate::http) async fn at_shared_listener(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let found = at_shared(&state, None, request.uri());
    guarded(&state, found, request, next, HTTP).await
}

/// How a protocol tells errors, and how they are found in what it has told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wording {
    pub(crate) refuse: fn(Error) -> Response,
    pub(crate) failed: fn(&Response) -> Option<Failed>,
}

const HTTP: Wording =
    Wording { refuse: Error::into_response, failed: |response| response.extensions().get().cloned() };

/// Whether operators may ask at a listener of all requests, and whether only this machine can reach it. `here` says
/// that of a listener other than `server.http`.
pub(crate) fn at_shared(state: &AppState, here: Option<bool>, uri: &Uri) -> Result<bool, Error> {
    let remedy = match state.admin() {
        AdminAccess::Shared { is_loopback } if here.unwrap_or(*is_loopback) || state.gate().is_closed() => {
            return Ok(here.unwrap_or(*is_loopback));
        }
        AdminAccess::Own { address, .. } => format!("ask at {address} (server.admin)"),
        AdminAccess::Shared { .. } | AdminAccess::Off => {
            "set up 'auth', or set server.admin to an address that only operators reach".to_owned()
        }
    };
    let path: String = uri.path().chars().take(200).collect();
    Err(Error::new(ErrorCode::PermissionDenied, format!("{path} is not served at this address; {remedy}")))
}

/// Whether only this machine can reach the listener for operators.
pub(crate) fn own_is_loopback(state: &AppState) -> bool {
    matches!(state.admin(), AdminAccess::Own { is_loopback: true, .. })
}

/// In front of the operator's routes at their own listener.
pub(in crate::http) async fn at_own_listener(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let is_loopback = own_is_loopback(&state);
    guarded(&state, Ok(is_loopback), request, next, HTTP).await
}

/// The model that something was done to, where the path does not say.
#[derive(Clone, Debug)]
pub(crate) struct Acted(pub(crate) String);

/// Whatever changes something is kept in the audit log, and whatever is refused. `found`: whether only this machine can
/// reach the listener, or why operators may not ask there.
///
/// All of it goes on when the client goes: what was done is told.
pub(crate) async fn guarded(
    state: &AppState,
    found: Result<bool, Error>,
    request: Request,
    next: Next,
    wording: Wording,
) -> Response {
    let acting = tokio::spawn(act(state.clone(), found, request, next, wording));
    match acting.await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(response) => response,
        Err(Ok(panic)) => resume_unwind(panic),
        Err(Err(_)) => (wording.refuse)(Error::new(ErrorCode::Unavailable, "the server is stopping")),
    }
}

async fn act(
    state: AppState,
    found: Result<bool, Error>,
    request: Request,
    next: Next,
    wording: Wording,
) -> Response {
    let asked = AskedOf::read(&state, &request);
    let judged = found.and_then(|is_loopback| judge(is_loopback, &request, asked.caller.as_ref()));
    let answered = match judged {
        Ok(()) => AssertUnwindSafe(next.run(request)).catch_unwind().await,
        Err(error) => Ok((wording.refuse)(error)),
    };
    let failed = match &answered {
        Ok(response) => (wording.failed)(response).map(|failed| failed.0),
        Err(_) => Some(Error::internal("the host failed")),
    };
    let acted = answered.as_ref().ok().and_then(|response| response.extensions().get());
    asked.record(&state, acted, failed).await;
    answered.unwrap_or_else(|panic| resume_unwind(panic))
}

/// What an operator asks for, as the audit log has it.
struct AskedOf {
    action: String,
    changes: bool,
    caller: Option<Caller>,
    address: Option<IpAddr>,
}

impl AskedOf {
    fn read(state: &AppState, request: &Request) -> Self {
        let path: String = request.uri().path().chars().take(500).collect();
        let peer = request.extensions().get::<Origin>();
        Self {
            action: format!("{} {path}", request.method()),
            changes: !request.method().is_safe(),
            caller: request.extensions().get().cloned(),
            address: peer.map(|peer| state.gate().address(request.headers(), peer)),
        }
    }

    /// Keeps what came of it, if it changes something or was refused.
    async fn record(mut self, state: &AppState, acted: Option<&Acted>, failed: Option<Error>) {
        let is_refusal =
            |error: &Error| matches!(error.code, ErrorCode::PermissionDenied | ErrorCode::Unauthenticated);
        if !self.changes && !failed.as_ref().is_some_and(is_refusal) {
            return;
        }
        if let Some(Acted(model)) = acted {
            self.action.push(' ');
            self.action.push_str(&shown(model, 500));
        }
        let identity = self.caller.as_ref().map(Caller::identity);
        let entry = AuditEntry {
            action: self.action,
            subject: identity.map_or_else(String::new, |identity| identity.subject.clone()),
            kind: identity.map_or("", |identity| identity.kind.as_str()),
            address: self.address,
            outcome: failed.as_ref().map_or("done", |error| error.code.as_str()),
            reason: failed.map(|error| error.message.chars().take(500).collect()),
        };
        state.audit().record(entry).await;
    }
}

fn judge(is_loopback: bool, request: &Request, caller: Option<&Caller>) -> Result<(), Error> {
    let refused = |message: &'static str| Err(Error::new(ErrorCode::PermissionDenied, message));
    if is_loopback && !is_asked_by_its_own_name(request.headers(), request.uri()) {
        return refused("operators ask this machine by its address or as localhost; 'host' has another name");
    }
    if is_of_another_origin(request.headers(), request.uri()) {
        return refused(
            "a web page of another origin cannot ask for this; send the request without 'origin'",
        );
    }
    caller.ok_or_else(|| Error::internal("the host has not asked who asks"))?.require(Need::Admin)
}

/// A page whose name was made to lead to this machine asks under that name: its origin is its own then, and only
/// the name tells.
fn is_asked_by_its_own_name(headers: &HeaderMap, uri: &Uri) -> bool {
    let header = headers.get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    let Some(host) = uri.authority().map(http::uri::Authority::as_str).or(header) else {
        return true;
    };
    let Ok(authority) = host.parse::<http::uri::Authority>() else {
        return false;
    };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

/// Browsers send `origin` with what a page asks for; anything but the host's own is a stranger's page.
fn is_of_another_origin(headers: &HeaderMap, uri: &Uri) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = uri.authority().map(http::uri::Authority::as_str).or(host);
    let origin = origin.to_str().ok().and_then(|origin| Some(origin.split_once("://")?.1));
    origin.is_none() || origin != host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(origin: Option<&'static str>, host: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        !is_of_another_origin(&headers, &Uri::from_static("/admin/models"))
    }

    #[test]
    fn a_name_that_was_made_to_lead_here_does_not_pass() {
        let asks = |host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            is_asked_by_its_own_name(&headers, &Uri::from_static("/admin/models"))
        };
        for own in ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "10.0.0.1"] {
            assert!(asks(own), "{own}");
        }
        for stranger in
            ["evil.example:8080", "localhost.evil.example", "", "127.0.0.1.nip.example", "a b", "user@x"]
        {
            assert!(!asks(stranger), "{stranger}");
        }
    }

    #[test]
    fn only_the_hosts_own_pages_may_ask() {
        assert!(asks(None, "127.0.0.1:8080"));
        assert!(asks(Some("http://127.0.0.1:8080"), "127.0.0.1:8080"));
        for stranger in ["http://evil.example", "null", "http://127.0.0.1:9000", "file://"] {
            assert!(!asks(Some(stranger), "127.0.0.1:8080"), "{stranger}");
        }
    }
}
