//! What a plugin that broke down left behind, and who gets to see it.
//!
//! Owns the rule of `server.error_details`. Backtraces and output of a guest tell of its inside: without the
//! consent of the operator they do not leave the machine.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{Extensions, HeaderMap};

use super::reply;
use super::state::AppState;
use crate::auth::Origin;
use crate::config::ErrorDetails;

/// Headers by which a proxy says for whom it asks.
const BY_PROXY: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// Adds the details to the error of who may see them.
pub(super) async fn disclose(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let may_see = may_see(state.error_details(), request.headers(), request.extensions());
    let response = next.run(request).await;
    if may_see { reply::with_all_details(response) } else { response }
}

/// Whether who asks may see what a plugin left behind.
pub(super) fn may_see(rule: ErrorDetails, headers: &HeaderMap, extensions: &Extensions) -> bool {
    match rule {
        ErrorDetails::Always => true,
        ErrorDetails::Never => false,
        ErrorDetails::Local => {
            let origin = extensions.get::<Origin>();
            let is_near = origin.is_some_and(|origin| origin.address.to_canonical().is_loopback());
            is_near && !BY_PROXY.iter().any(|name| headers.contains_key(*name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_from_this_machine_itself_is_near() {
        let asks = |rule, address: &str, header: Option<&'static str>| {
            let mut extensions = Extensions::new();
            let address = address.parse().unwrap();
            extensions.insert(Origin { address, certificate: None });
            let mut headers = HeaderMap::new();
            if let Some(name) = header {
                headers.insert(name, "1.2.3.4".parse().unwrap());
            }
            may_see(rule, &headers, &extensions)
        };
        let local = ErrorDetails::Local;
        assert!(asks(local, "127.0.0.1", None) && asks(local, "::1", None));
        assert!(asks(local, "::ffff:127.0.0.1", None));
        assert!(!asks(local, "10.0.0.1", None) && !asks(local, "2001:db8::1", None));
        assert!(BY_PROXY.iter().all(|name| !asks(local, "127.0.0.1", Some(name))));
        assert!(asks(ErrorDetails::Always, "10.0.0.1", None));
        assert!(!asks(ErrorDetails::Never, "127.0.0.1", None));
        assert!(!may_see(local, &HeaderMap::new(), &Extensions::new()), "nobody knows who asks");
    }
}
