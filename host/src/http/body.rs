//! Reading a request's body within its limits.
//!
//! Owns the cut-off: a body that says it is too long is refused before a byte is read, one that does not say
//! is cut off at the limit while reading. The same limit holds for what a compressed one expands to. What is read
//! counts in the memory of all requests until the last part of it is dropped, and has to arrive at a pace.

use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;

use super::compression::{coding_of, inflate};
use super::front::MemoryBudget;
use crate::error::{Error, ErrorCode};

/// Memory is set aside for so many times what has arrived, if the body may have as much: little enough that
/// nobody fills the memory of all with what is only announced.
const AHEAD: usize = 4;
/// What has to arrive within each [`BodyBounds::pace`].
const PORTION: usize = 16 << 10;

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
        return Err(too_slow("the body did not arrive in time (server.request_timeout)"));
    };
    match coding {
        None => read,
        Some(coding) => inflate(coding, read?, limit, deadline, &bounds.memory).await,
    }
}

/// `most`: bytes that there can be, as the client says or as the limit is.
async fn collect(mut body: Body, limit: usize, most: usize, bounds: &BodyBounds) -> Result<Bytes, Error> {
    let mut first = Bytes::new();
    let mut all = Vec::new();
    let mut memory = bounds.memory.reserve(0)?;
    let mut pace = Pace::new(bounds.pace);
    while let Some(frame) = pace.next(&mut body).await? {
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

/// The clock of a body that is being read.
struct Pace {
    each: Duration,
    due: Instant,
    arrived: usize,
}

type Next = Option<Result<http_body::Frame<Bytes>, axum::Error>>;

impl Pace {
    fn new(each: Duration) -> Self {
        Self { each, due: Instant::now() + each, arrived: 0 }
    }

    /// The next frame, if it comes before the portion that it belongs to is due.
    async fn next(&self, body: &mut Body) -> Result<Next, Error> {
        let next = tokio::time::timeout_at(self.due.into(), body.frame()).await;
        next.map_err(|_| too_slow("the body arrives too slowly (server.body_timeout for each 16 KiB)"))
    }

    fn arrived(&mut self, bytes: usize) {
        self.arrived += bytes;
        if self.arrived >= PORTION {
            self.arrived = 0;
            self.due = Instant::now() + self.each;
        }
    }
}

fn too_slow(message: &'static str) -> Error {
    Error::new(ErrorCode::RequestTimeout, message)
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
