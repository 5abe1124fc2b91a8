//! The bounds of one request, before any handler sees it.
//!
//! Owns the size of a request's head, and the part of the memory that each request takes whatever its body.
//! Health and metrics are always let in.

use http::request::Parts;

use super::memory::{MemoryBudget, Reservation};
use super::settled::Settled;
use crate::error::{Error, ErrorCode};
use crate::http::open::needs_no_memory;
use crate::telemetry::Metrics;

/// What a request costs in memory beside its head and its body: tasks, buffers, an answer's head.
const COST: usize = 16 << 10;

/// The bounds of each request. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// Bytes of the path and of all headers, names and values.
    pub max_header_size: usize,
    /// Headers.
    pub max_headers: usize,
    /// What all requests together may hold.
    pub memory: MemoryBudget,
}

/// A request that is not let in.
#[derive(Debug)]
pub(super) struct Refusal {
    error: Error,
    /// As it is counted; the memory counts its refusals itself.
    reason: Option<&'static str>,
}

impl RequestLimits {
    /// Lets a request in, with the memory that it takes; `None` for one that is always let in.
    pub(super) fn admit(&self, head: &Parts) -> Result<Option<Reservation>, Refusal> {
        let size = self.size(head)?;
        if needs_no_memory(head.uri.path()) {
            return Ok(None);
        }
        let taken = self.memory.reserve(COST + size);
        taken.map(Some).map_err(|error| Refusal { error, reason: None })
    }

    fn size(&self, head: &Parts) -> Result<usize, Refusal> {
        let too_much = |message: String| Refusal {
            error: Error::new(ErrorCode::HeadersTooLarge, message),
            reason: Some("headers"),
        };
        if head.headers.len() > self.max_headers {
            let (count, most) = (head.headers.len(), self.max_headers);
            return Err(too_much(format!(
                "the request has {count} headers, at most {most} (server.max_headers)"
            )));
        }
        let fields: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let target = head.uri.path().len() + head.uri.query().map_or(0, str::len);
        if fields + target > self.max_header_size {
            let most = self.max_header_size;
            return Err(too_much(format!(
                "path and headers of the request have {} bytes, at most {most} (server.max_header_size)",
                fields + target
            )));
        }
        Ok(fields + target)
    }
}

impl Refusal {
    /// What the router is to answer; it is counted.
    pub(super) fn settle(self, metrics: &Metrics) -> Settled {
        if let Some(reason) = self.reason {
            metrics.front().refused(reason);
        }
        Settled::Refused(self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(path: &str, headers: usize, length: usize) -> Parts {
        let mut request = http::Request::builder().uri(path);
        for number in 0..headers {
            request = request.header(format!("x-{number}"), "y".repeat(length));
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_is_too_much_is_refused_by_name_and_health_is_always_let_in() {
        let memory = MemoryBudget::new(20_000);
        let limits = RequestLimits { max_header_size: 1000, max_headers: 10, memory: memory.clone() };
        let refused = |head: &Parts| limits.admit(head).unwrap_err();
        assert!(refused(&head("/v2", 11, 1)).error.message.contains("server.max_headers"));
        assert!(refused(&head("/v2", 10, 100)).error.message.contains("server.max_header_size"));
        let long = format!("/v2?{}", "x".repeat(1000));
        assert_eq!(refused(&head(&long, 0, 0)).reason, Some("headers"));
        let first = limits.admit(&head("/v2", 2, 10)).unwrap();
        assert!(memory.used() > COST);
        let second = refused(&head("/v2", 2, 10));
        assert_eq!((memory.refused(), second.error.code), (1, ErrorCode::Unavailable));
        assert!(limits.admit(&head("/v2/health/live", 2, 10)).unwrap().is_none());
        assert!(limits.admit(&head("/metrics", 2, 10)).unwrap().is_none());
        drop(first);
        assert_eq!(memory.used(), 0);
    }
}
