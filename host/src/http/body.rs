//! Reading a request's body within its limits.
//!
//! Owns the cut-off: a body that says it is too long is refused before a byte is read, one that does
//! not say is cut off at the limit while reading.

use std::time::Instant;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;

use crate::error::{Error, ErrorCode};

/// Memory that is set aside on the word of a `Content-Length` alone.
const TRUSTED_LENGTH: usize = 1 << 20;

/// Reads a body whole.
///
/// # Errors
/// `PayloadTooLarge`, `UnsupportedMediaType` for a compressed one, `DeadlineExceeded` if the client is
/// too slow, `InvalidArgument` if it breaks off.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    deadline: Instant,
) -> Result<Bytes, Error> {
    refuse_compressed(headers)?;
    let declared = declared_length(headers);
    if declared.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let reading = collect(body, limit, declared.unwrap_or(0).min(TRUSTED_LENGTH));
    match tokio::time::timeout_at(deadline.into(), reading).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let message = "the body did not arrive in time (server.request_timeout)";
            Err(Error::new(ErrorCode::DeadlineExceeded, message))
        }
    }
}

async fn collect(mut body: Body, limit: usize, capacity: usize) -> Result<Bytes, Error> {
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::invalid(format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = first.as_ref().map_or(rest.len(), Bytes::len);
        if data.len() > limit - length {
            return Err(too_large(limit));
        }
        // Most bodies are one frame, which is taken as it is, without a copy.
        if first.is_none() && rest.is_empty() {
            first = Some(data);
            continue;
        }
        if let Some(first) = first.take() {
            rest.reserve(capacity.max(first.len() + data.len()));
            rest.extend_from_slice(&first);
        }
        rest.extend_from_slice(&data);
    }
    Ok(first.unwrap_or_else(|| rest.freeze()))
}

pub(super) fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn refuse_compressed(headers: &HeaderMap) -> Result<(), Error> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    match encodings.find(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        Some(encoding) => Err(Error::new(
            ErrorCode::UnsupportedMediaType,
            format!("content-encoding {encoding:?} is not read by this version; send the body uncompressed"),
        )),
        None => Ok(()),
    }
}

/// The refusal of a body over a limit.
pub(crate) fn too_large(limit: usize) -> Error {
    Error::new(
        ErrorCode::PayloadTooLarge,
        format!("the body is over the limit of {limit} bytes (server.max_body is the most for any request)"),
    )
}
