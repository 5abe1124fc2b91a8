//! Reading a request's body within its limits.
//!
//! Owns the cut-off: a body that says it is too long is refused before a byte is read, one that does not say
//! is cut off at the limit while reading. The same limit holds for what a compressed one expands to. What is read
//! counts in the memory of all requests until the last part of it is dropped, and has to arrive at a pace.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;

use super::compression::{coding_of, inflate};
use super::front::MemoryBudget;
use super::pace::{Pace, not_in_time};
use super::state::AppState;
use crate::error::{Error, ErrorCode};

/// Memory is set aside for so many times what has arrived, if the body may have as much: little enough that
/// nobody fills the memory of all with what is only announced.
const AHEAD: usize = 4;

/// What holds for every body.
#[derive(Clone, Debug)]
pub struct BodyBounds {
    /// What all requests together may hold.
    pub memory: MemoryBudget,
    /// How long each 16 KiB may take.
    pub pace: Duration,
}

/// Reads a body whole, and inflates it if it came compressed.
///
/// # Errors
/// `PayloadTooLarge`, `UnsupportedMediaType` for a coding that is not read, `RequestTimeout` if the client is
/// too slow, `InvalidArgument` if it breaks off, `Unavailable` if the memory of all requests is used up.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    deadline: Instant,
    bounds: &BodyBounds,
) -> Result<Bytes, Error> {
    let coding = coding_of(headers)?;
    let declared = declared_length(headers);
    if declared.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    bounds.memory.check(declared.unwrap_or(0))?;
    let reading = collect(body, limit, declared.unwrap_or(limit), bounds);
    let Ok(read) = tokio::time::timeout_at(deadline.into(), reading).await else {
        return Err(not_in_time());
    };
    match coding {
        None => read,
        Some(coding) => inflate(coding, read?, limit, deadline, &bounds.memory).await,
    }
}

/// The body of a request that is about the server or a model, and is small: there is as much time for it as for any
/// request.
///
/// # Errors
/// As [`read`].
pub(super) async fn of(request: Request, limit: usize, state: &AppState) -> Result<Bytes, Error> {
    let (head, body) = request.into_parts();
    let deadline = Instant::now() + state.request_timeout();
    read(&head.headers, body, limit, deadline, state.bodies()).await
}

/// `most`: bytes that there can be, as the client says or as the limit is.
async fn collect(mut body: Body, limit: usize, most: usize, bounds: &BodyBounds) -> Result<Bytes, Error> {
    let mut first = Bytes::new();
    let mut all = Vec::new();
    let mut memory = bounds.memory.nothing();
    let mut pace = Pace::new(bounds.pace);
    while let Some(frame) = next(&mut body, &mut pace).await? {
        let frame = frame.map_err(|error| Error::invalid(format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = first.len() + all.len() + data.len();
        if length > limit {
            return Err(too_large(limit));
        }
        pace.arrived(data.len());
        // Most bodies are one frame, which is taken as it is, without a copy.
        if length == data.len() {
            memory.grow_to(length)?;
            first = data;
            continue;
        }
        if length > all.capacity() {
            let capacity = (AHEAD * length).min(most).max(length);
            memory.grow_to(capacity)?;
            all.reserve_exact(capacity - all.len());
        }
        all.extend_from_slice(&std::mem::take(&mut first));
        all.extend_from_slice(&data);
    }
    Ok(memory.hold(if all.is_empty() { first } else { all.into() }))
}

type Next = Option<Result<http_body::Frame<Bytes>, axum::Error>>;

/// The next frame, if it comes before the portion that it belongs to is due.
async fn next(body: &mut Body, pace: &mut Pace) -> Result<Next, Error> {
    let since = Instant::now();
    let next = tokio::time::timeout(pace.left(), body.frame()).await.map_err(|_| Pace::too_slow())?;
    pace.waited(since.elapsed());
    Ok(next)
}

pub(super) fn declared_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The refusal of a body over a limit.
pub(crate) fn too_large(limit: usize) -> Error {
    Error::new(
        ErrorCode::PayloadTooLarge,
        format!("the body is over the limit of {limit} bytes (server.max_body is the most for any request)"),
    )
}
