//! The id under which a request is told, in its answer and in the log.
//!
//! Owns which header it is taken from, and what an id may look like.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::{HeaderMap, HeaderName, HeaderValue};

/// Where an id comes from and goes to.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The W3C's trace context: version, trace, parent and flags in hexadecimal.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Characters that an id may have.
const LONGEST: usize = 128;

/// The client's `x-request-id`, else the trace of its `traceparent`, else a new one.
pub(crate) fn of(headers: &HeaderMap) -> HeaderValue {
    if let Some(given) = headers.get(REQUEST_ID).filter(|id| is_id(id.as_bytes())) {
        return given.clone();
    }
    let trace = headers.get(TRACEPARENT).and_then(|value| trace_of(value.as_bytes()));
    trace.and_then(|trace| HeaderValue::from_bytes(trace).ok()).unwrap_or_else(new)
}

/// The id as a text.
pub(crate) fn text(id: &HeaderValue) -> &str {
    id.to_str().unwrap_or_default()
}

/// Visible characters, so that it is one word in a log.
fn is_id(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

fn trace_of(value: &[u8]) -> Option<&[u8]> {
    let mut parts = value.trim_ascii().split(|&byte| byte == b'-');
    let (version, trace, parent) = (parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &[u8], length| part.len() == length && part.iter().all(u8::is_ascii_hexdigit);
    let known = is_hex(version, 2) && !version.eq_ignore_ascii_case(b"ff");
    (known && is_hex(parent, 16) && is_hex(trace, 32) && trace.iter().any(|&digit| digit != b'0'))
        .then_some(trace)
}

/// Differs from all others with a probability that is enough for telling requests apart.
fn new() -> HeaderValue {
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = SEED.hash_one(COUNT.fetch_add(1, Relaxed));
    HeaderValue::from_str(&format!("{number:016x}")).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        text(&of(&map)).to_owned()
    }

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn the_clients_own_id_comes_first_and_then_its_trace() {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        assert_eq!(id(&[("x-request-id", "a-1"), ("traceparent", &parent)]), "a-1");
        assert_eq!(id(&[("traceparent", &parent)]), TRACE);
        assert_ne!(id(&[]), id(&[]));
    }

    #[test]
    fn what_is_no_id_is_replaced() {
        let long = "x".repeat(LONGEST + 1);
        let zero = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        for header in [
            ("x-request-id", ""),
            ("x-request-id", "two words"),
            ("x-request-id", long.as_str()),
            ("traceparent", "00-1-2-3"),
            ("traceparent", zero.as_str()),
            ("traceparent", &format!("ff-{TRACE}-00f067aa0ba902b7-01")),
            ("traceparent", "----"),
        ] {
            assert_eq!(id(&[header]).len(), 16, "{header:?}");
        }
    }
}
