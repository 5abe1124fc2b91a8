//! From an error to an answer: the only place where an [`ErrorCode`] becomes a status.
//!
//! Owns the mapping and the body's form, `{"error": …, "code": …, "details": {…}}`.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::request_id::RequestId;
use crate::error::{Error, ErrorCode};

/// The HTTP status of each code.
pub fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorCode::Conflict => StatusCode::CONFLICT,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // The client is gone: this is for logs, where nginx made the number known.
        ErrorCode::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        ErrorCode::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::PluginFault | ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Unimplemented => StatusCode::NOT_IMPLEMENTED,
    }
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

/// What is wrong, in the extensions of an answer that says so.
#[derive(Clone, Debug)]
pub(super) struct Failed(pub(super) Error);

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = body_of(&self, None);
        if matches!(self.code, ErrorCode::ResourceExhausted | ErrorCode::Unavailable) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.extensions_mut().insert(Failed(self));
        response
    }
}

fn body_of(error: &Error, request_id: Option<&str>) -> Response {
    let details = error.details.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    let body = ErrorBody { error: &error.message, code: error.code.as_str(), request_id, details };
    json(status_of(error.code), &body)
}

/// Names the request in the body of an answer that is an error.
pub(super) fn name_request(response: &mut Response, id: &RequestId) {
    let Some(Failed(error)) = response.extensions().get::<Failed>() else {
        return;
    };
    let named = body_of(error, Some(id.as_str()));
    *response.body_mut() = named.into_body();
    response.headers_mut().remove(header::CONTENT_LENGTH);
}

/// 503 for who asks whether something is ready, with when to ask again.
pub(super) fn not_ready(body: &serde_json::Value) -> Response {
    let mut response = json(StatusCode::SERVICE_UNAVAILABLE, body);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// An answer of JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let Ok(body) = serde_json::to_vec(value) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_went_wrong_and_when_to_try_again() {
        let error = Error::new(ErrorCode::ResourceExhausted, "full").with_detail("queue", "8");
        let response = error.into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    }
}
