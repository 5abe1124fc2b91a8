//! Where an operator may ask, and where not.
//!
//! Owns the rule that `/admin`, loading and unloading are served only where strangers cannot reach them, and
//! that no web page of another origin can ask by way of an operator's browser. It knows no tokens.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Uri, header};

use crate::error::{Error, ErrorCode};
use crate::http::state::AppState;

/// Which listener serves operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAccess {
    /// The one of all requests: only this machine can reach it.
    Shared,
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
    match check_at_shared(&state, true, request.headers(), request.uri()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Whether operators may ask for this at a listener of all requests.
pub(crate) fn check_at_shared(
    state: &AppState,
    is_loopback: bool,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<(), Error> {
    let remedy = match state.admin() {
        AdminAccess::Shared if is_loopback => return check(true, headers, uri),
        AdminAccess::Own { address, .. } => format!("ask at {address} (server.admin)"),
        AdminAccess::Shared | AdminAccess::Off => {
            "set server.admin to an address that only operators reach".to_owned()
        }
    };
    let path: String = uri.path().chars().take(200).collect();
    Err(Error::new(ErrorCode::PermissionDenied, format!("{path} is not served at this address; {remedy}")))
}

/// In front of the operator's routes at their own listener.
pub(in crate::http) async fn at_own_listener(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    match check_at_own(&state, request.headers(), request.uri()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Whether operators may ask for this at their own listener.
pub(crate) fn check_at_own(state: &AppState, headers: &HeaderMap, uri: &Uri) -> Result<(), Error> {
    check(matches!(state.admin(), AdminAccess::Own { is_loopback: true, .. }), headers, uri)
}

fn check(is_loopback: bool, headers: &HeaderMap, uri: &Uri) -> Result<(), Error> {
    let refused = |message: &'static str| Err(Error::new(ErrorCode::PermissionDenied, message));
    if is_loopback && !is_asked_by_its_own_name(headers, uri) {
        return refused("operators ask this machine by its address or as localhost; 'host' has another name");
    }
    if is_of_another_origin(headers, uri) {
        return refused(
            "a web page of another origin cannot ask for this; send the request without 'origin'",
        );
    }
    Ok(())
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
