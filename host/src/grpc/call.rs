//! One call before its message is read: until when it may last, and what bounds its body.
//!
//! Owns `grpc-timeout`, and when an answer is compressed: if the request was. Clients offer to read compressed answers whether or not they want any.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::arriving::{Arriving, BoundedBody, Bounds};
use super::compressed::Aside;
use super::failure;
use super::lasting::LastingBody;
use crate::error::{Error, ErrorCode, shown};
use crate::http::Lasting;
use crate::http::state::AppState;

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// How the path of the stream of requests ends.
const INFER: &str = "/ModelStreamInfer";

/// What is known of a call before its message is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// When its head came.
    pub(super) arrived: Instant,
    /// What the client said how long it waits.
    pub(super) patience: Option<Duration>,
}

impl Call {
    /// When the client is gone.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.patience.and_then(|patience| self.arrived.checked_add(patience))
    }
}

/// The client waits no longer.
pub(super) fn too_late() -> Error {
    Error::new(ErrorCode::DeadlineExceeded, "the call's deadline (grpc-timeout) has passed")
}

/// Whether a method's messages may come over any time.
fn is_stream(path: &str) -> bool {
    path.ends_with(INFER) || path.ends_with("/ServerReflectionInfo")
}

pub(super) async fn begin(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    if head.method != Method::POST {
        let error = Error::new(ErrorCode::MethodNotAllowed, "a call of gRPC is a POST request");
        return failure::status(&error, None).into_http();
    }
    let arrived = Instant::now();
    let patience = match timeout(&head.headers) {
        Ok(patience) => patience,
        Err(error) => return failure::status(&error, None).into_http(),
    };
    let call = Call { arrived, patience };
    head.extensions.insert(call);
    settle_encoding(&mut head.headers);
    let arriving = Arriving::new(&state.bodies().memory);
    head.extensions.insert(arriving.clone());
    let is_stream = is_stream(head.uri.path());
    let bounds = Bounds {
        until: call.deadline(),
        each: state.request_timeout(),
        pace: state.bodies().pace,
        is_stream,
    };
    let body = Body::new(BoundedBody::new(body, arriving, bounds));
    if !is_stream {
        return answered(Request::from_parts(head, body), next).await;
    }
    let lasting = Lasting::default();
    head.extensions.insert(lasting.clone());
    // Reflection does not know of the server's end; the other stream tells it in its own words.
    let stop = (!head.uri.path().ends_with(INFER)).then(|| Box::pin(state.lifecycle().stopping()) as _);
    let body = Body::new(LastingBody::new(body, lasting.clone(), state.idle_timeout(), stop));
    let mut response = answered(Request::from_parts(head, body), next).await;
    response.extensions_mut().insert(lasting);
    response
}

/// The answer to a call; if messages are compressed, they are so aside.
async fn answered(request: Request, next: Next) -> Response {
    if request.headers().get(ENCODING).is_none_or(|encoding| encoding == "identity") {
        return next.run(request).await;
    }
    let response = Aside(Box::pin(next.run(request))).await;
    response.map(|body| Body::new(Aside(body)))
}

/// An answer is compressed as its request was, and as the client reads it.
fn settle_encoding(headers: &mut HeaderMap) {
    let encoding = headers.get(ENCODING).filter(|encoding| *encoding != "identity").cloned();
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let reads = |encoding: &HeaderValue| accepted.split(',').any(|one| encoding == one.trim());
    match encoding.filter(reads) {
        Some(encoding) => headers.insert(ACCEPT_ENCODING, encoding),
        None => headers.remove(ACCEPT_ENCODING),
    };
}

/// How long the client waits, in gRPC's form: at most eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Error> {
    let Some(value) = headers.get(TIMEOUT) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let refused = || {
        let text = shown(text, 40);
        Error::invalid(format!(
            "grpc-timeout: expected up to 8 digits and one of H, M, S, m, u, n, got '{text}'"
        ))
    };
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(refused)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(refused());
    }
    let count: u64 = digits.parse().map_err(|_| refused())?;
    Ok(Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return Err(refused()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Duration>, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(TIMEOUT, HeaderValue::from_str(text).unwrap());
        timeout(&headers)
    }

    #[test]
    fn timeouts_are_digits_and_a_unit() {
        assert_eq!(timeout(&HeaderMap::new()), Ok(None));
        for (text, expected) in [
            ("1S", Duration::from_secs(1)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
            ("2M", Duration::from_secs(120)),
            ("15m", Duration::from_millis(15)),
            ("15u", Duration::from_micros(15)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(read(text), Ok(Some(expected)), "{text}");
        }
        for text in ["", "S", "1", "-1S", "+1S", "1.5S", "123456789S", "1s", "1 S", "S1", "1SS"] {
            let error = read(text).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidArgument, "{text}");
        }
    }

    #[test]
    fn an_answer_is_compressed_only_as_its_request_was() {
        let settled = |encoding: Option<&'static str>, accepted: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            if let Some(encoding) = encoding {
                headers.insert(ENCODING, HeaderValue::from_static(encoding));
            }
            settle_encoding(&mut headers);
            headers.get(ACCEPT_ENCODING).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(settled(None, "identity, deflate, gzip"), None);
        assert_eq!(settled(Some("identity"), "gzip"), None);
        assert_eq!(settled(Some("gzip"), "identity, deflate, gzip").as_deref(), Some("gzip"));
        assert_eq!(settled(Some("zstd"), "gzip"), None);
    }
}
