//! From an error to an answer: the only place where an [`ErrorCode`] becomes a status.
//!
//! Owns the mapping for both protocols, and the body's form on HTTP, `{"error": …, "code": …, "details": {…}}`.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use tonic::Code;

use super::request_id::RequestId;
use crate::error::{Error, ErrorCode};

/// The HTTP status and the gRPC status of each code.
pub fn statuses_of(code: ErrorCode) -> (StatusCode, Code) {
    match code {
        ErrorCode::InvalidArgument => (StatusCode::BAD_REQUEST, Code::InvalidArgument),
        ErrorCode::NotFound => (StatusCode::NOT_FOUND, Code::NotFound),
        ErrorCode::Unauthenticated => (StatusCode::UNAUTHORIZED, Code::Unauthenticated),
        ErrorCode::PermissionDenied => (StatusCode::FORBIDDEN, Code::PermissionDenied),
        ErrorCode::Conflict => (StatusCode::CONFLICT, Code::FailedPrecondition),
        ErrorCode::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented),
        ErrorCode::PayloadTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
        ErrorCode::HeadersTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Code::ResourceExhausted),
        ErrorCode::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded),
        ErrorCode::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument),
        ErrorCode::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted),
        // The client is gone: this is for logs, where nginx made the number known.
        ErrorCode::Cancelled => {
            (StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST), Code::Cancelled)
        }
        ErrorCode::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded),
        // RFC 9111, section 5.2.1.7.
        ErrorCode::NotCached => (StatusCode::GATEWAY_TIMEOUT, Code::FailedPrecondition),
        ErrorCode::PluginFault | ErrorCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal),
        ErrorCode::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
        ErrorCode::Unimplemented => (StatusCode::NOT_IMPLEMENTED, Code::Unimplemented),
    }
}

/// Whether the same request may well be answered a little later.
pub fn passes(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::ResourceExhausted | ErrorCode::Unavailable)
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    details: serde_json::Map<String, serde_json::Value>,
}

/// What is wrong, in the extensions of an answer that says so: for the access log, and for who may see all of it.
#[derive(Clone, Debug)]
pub(crate) struct Failed(pub(crate) Error);

/// In the extensions of an answer whose reader may see all details of its error.
#[derive(Clone, Copy, Debug)]
struct AllDetails;

/// Details that tell of a plugin's inside: see `details`.
const PRIVATE: [&str; 3] = ["backtrace", "log", "output"];

/// Whether a detail of an error is only for who may see a plugin's inside.
pub fn is_private(code: ErrorCode, name: &str) -> bool {
    code == ErrorCode::PluginFault && PRIVATE.contains(&name)
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = body_of(&self, None, false);
        if passes(self.code) {
            let wait = self.retry_after.map_or(1, whole_seconds);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
        }
        response.headers_mut().extend(self.challenge().map(|value| (header::WWW_AUTHENTICATE, value)));
        response.extensions_mut().insert(Failed(self));
        response
    }
}

fn body_of(error: &Error, request_id: Option<&str>, all_details: bool) -> Response {
    let shown = error.details.iter().filter(|(name, _)| all_details || !is_private(error.code, name));
    let details = shown.map(|(name, value)| (name.clone(), value.clone().into())).collect();
    let body = ErrorBody { error: &error.message, code: error.code.as_str(), request_id, details };
    json(statuses_of(error.code).0, &body)
}

/// Names the request in the body of an answer that is an error.
pub(super) fn name_request(response: &mut Response, id: &RequestId) {
    let all_details = response.extensions().get::<AllDetails>().is_some();
    let Some(Failed(error)) = response.extensions().get::<Failed>() else {
        return;
    };
    let named = body_of(error, Some(id.as_str()), all_details);
    *response.body_mut() = named.into_body();
    response.headers_mut().remove(header::CONTENT_LENGTH);
}

/// Lets the answer have all of its error's details, once the request is named in it.
pub(super) fn with_all_details(mut response: Response) -> Response {
    if response.extensions().get::<Failed>().is_some() {
        response.extensions_mut().insert(AllDetails);
    }
    response
}

/// 503 for who asks whether something is ready, with when to ask again.
pub(super) fn not_ready(body: &serde_json::Value) -> Response {
    let mut response = json(StatusCode::SERVICE_UNAVAILABLE, body);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Seconds after which it is late enough: rounded up, at least one.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

impl Error {
    /// What a client has to show (RFC 6750). Always the same where it is not known who asks.
    pub(crate) fn challenge(&self) -> Option<HeaderValue> {
        match self.code {
            ErrorCode::Unauthenticated => Some(HeaderValue::from_static("Bearer realm=\"nuke\"")),
            ErrorCode::PermissionDenied => {
                let (_, scope) = self.details.iter().find(|(name, _)| name == "scope")?;
                let harmless =
                    scope.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
                let scope = if harmless { format!(", scope=\"{scope}\"") } else { String::new() };
                HeaderValue::from_str(&format!("Bearer realm=\"nuke\", error=\"insufficient_scope\"{scope}"))
                    .ok()
            }
            _ => None,
        }
    }
}

/// What was asked for, as JSON.
pub(super) fn ok(value: &impl Serialize) -> Response {
    json(StatusCode::OK, value)
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let Ok(body) = serde_json::to_vec(value) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_both_statuses_of_every_code() {
        let manual = include_str!("../../../docs/errors.md");
        for code in ErrorCode::ALL {
            let (status, grpc) = statuses_of(code);
            // As gRPC's documents spell it, and not as Rust does.
            let spelled: String = format!("{grpc:?}")
                .chars()
                .enumerate()
                .flat_map(|(at, letter)| {
                    let gap = (at > 0 && letter.is_uppercase()).then_some('_');
                    gap.into_iter().chain(letter.to_uppercase())
                })
                .collect();
            let row = format!("| `{}` | {} | `{spelled}` |", code.as_str(), status.as_u16());
            assert!(manual.contains(&row), "docs/errors.md has no row {row}");
        }
    }

    #[test]
    fn an_error_says_what_went_wrong_and_when_to_try_again() {
        let error = Error::new(ErrorCode::ResourceExhausted, "full").with_detail("queue", "8");
        let response = error.into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    }

    #[tokio::test]
    async fn what_a_plugin_left_behind_is_shown_on_demand_only() {
        use http_body_util::BodyExt as _;
        let error = Error::new(ErrorCode::PluginFault, "broken")
            .with_detail("output", "secret")
            .with_detail("a", "b");
        let text = async |response: Response| response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            text(error.clone().into_response()).await,
            r#"{"error":"broken","code":"plugin_fault","details":{"a":"b"}}"#
        );
        let id = RequestId::of(&http::HeaderMap::new());
        let named = async |mut response: Response| {
            name_request(&mut response, &id);
            text(response).await
        };
        let hidden = named(error.clone().into_response()).await;
        assert!(!hidden.windows(6).any(|window| window == b"secret"));
        let shown = named(with_all_details(error.into_response())).await;
        assert!(shown.windows(6).any(|window| window == b"secret"));
        let own = Error::invalid("x").with_detail("output", "own");
        assert!(text(own.into_response()).await.windows(3).any(|window| window == b"own"));
    }

    #[test]
    fn a_wait_is_rounded_up() {
        let error =
            Error::new(ErrorCode::ResourceExhausted, "often").retry_after(Duration::from_millis(2001));
        assert_eq!(error.into_response().headers()[header::RETRY_AFTER], "3");
        assert_eq!(whole_seconds(Duration::ZERO), 1);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
    }

    #[test]
    fn who_is_not_known_or_may_not_is_told_what_to_show() {
        let response = Error::new(ErrorCode::Unauthenticated, "who").into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer realm=\"nuke\"");
        let refused = |scope: &str| {
            let error = Error::new(ErrorCode::PermissionDenied, "no").with_detail("scope", scope);
            error.into_response().headers()[header::WWW_AUTHENTICATE].to_str().unwrap().to_owned()
        };
        let expected = "Bearer realm=\"nuke\", error=\"insufficient_scope\", scope=\"predict:a\"";
        assert_eq!(refused("predict:a"), expected);
        for odd in ["predict:a\"b", "predict:a\\", "predict:a b", "predict:\u{e9}"] {
            assert_eq!(refused(odd), "Bearer realm=\"nuke\", error=\"insufficient_scope\"", "{odd}");
        }
        let elsewhere = Error::new(ErrorCode::PermissionDenied, "not here").into_response();
        assert!(elsewhere.headers().get(header::WWW_AUTHENTICATE).is_none());
    }
}
