//! What a request is called, in its answer and in the log.
//!
//! Owns which names are taken from a client: `x-request-id`, and the trace of `traceparent` (W3C Trace Context). What
//! could be anything but a plain short name is replaced by one of the host's own.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header of both directions.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Bytes of a name from outside.
const MOST: usize = 128;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct RequestId {
    /// Nothing but letters, digits and `-_.:/+=@`.
    name: HeaderValue,
    /// The trace that the client counts it to, 32 hexadecimal digits.
    trace: Option<String>,
}

impl RequestId {
    /// The client's own name for it, else the trace's, else a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let trace = only(headers, &TRACEPARENT).and_then(|value| trace_of(value.as_bytes()));
        let own = only(headers, &REQUEST_ID).filter(|value| is_plain(value.as_bytes())).cloned();
        let traced = || HeaderValue::from_str(trace.as_deref()?).ok();
        let name = own.or_else(traced).unwrap_or_else(fresh);
        Self { name, trace }
    }

    /// As a header's value.
    pub(crate) fn header(&self) -> HeaderValue {
        self.name.clone()
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        self.name.to_str().unwrap_or_default()
    }

    /// The trace that it belongs to.
    pub(crate) fn trace(&self) -> Option<&str> {
        self.trace.as_deref()
    }
}

/// The header's value, if it is given once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let first = headers.get(name)?;
    (headers.get_all(name).iter().count() == 1).then_some(first)
}

fn is_plain(name: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    (1..=MOST).contains(&name.len()) && name.iter().all(plain)
}

/// `00-<trace>-<parent>-<flags>`: later versions may have more behind it.
fn trace_of(value: &[u8]) -> Option<String> {
    let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|&byte| byte == b'0');
    let (version, trace) = (value.get(..2)?, value.get(3..35)?);
    let (parent, flags) = (value.get(36..52)?, value.get(53..55)?);
    let dashes = [2, 35, 52].iter().all(|&at| value.get(at) == Some(&b'-'));
    let ends = match value.get(55) {
        None => true,
        Some(next) => version != b"00" && *next == b'-' && value.len() <= 512,
    };
    let whole = dashes && ends && [version, trace, parent, flags].into_iter().all(is_hex);
    let valid = whole && version != b"ff" && !is_zero(trace) && !is_zero(parent);
    valid.then(|| String::from_utf8_lossy(trace).into_owned())
}

/// A name that no other request of any host has: two random words of the process, stirred by a count.
fn fresh() -> HeaderValue {
    static SEED: LazyLock<(u64, u64)> = LazyLock::new(|| {
        let random = RandomState::new();
        (random.hash_one("requests"), random.hash_one("of this process"))
    });
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Relaxed);
    let (high, low) = (SEED.0, SEED.1 ^ count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    HeaderValue::try_from(format!("{high:016x}{low:016x}")).unwrap_or(HeaderValue::from_static("unnamed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn named(headers: &[(HeaderName, &[u8])]) -> RequestId {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        RequestId::of(&map)
    }

    #[test]
    fn a_plain_name_is_kept_and_any_other_replaced() {
        for name in ["a", "7f9c-1:b/2", "user@host=x+y_z.1", &"x".repeat(128)] {
            assert_eq!(named(&[(REQUEST_ID, name.as_bytes())]).as_str(), name);
        }
        let odd = "x".repeat(129);
        for name in ["", " ", "a b", "a\"b", "<script>", "a\tb", "é", "${jndi:x}", "a;b", odd.as_str()] {
            let replaced = named(&[(REQUEST_ID, name.as_bytes())]);
            assert_ne!(replaced.as_str(), name);
            assert_eq!(replaced.as_str().len(), 32, "{name}");
        }
        let twice = named(&[(REQUEST_ID, b"a"), (REQUEST_ID, b"b")]);
        assert_eq!(twice.as_str().len(), 32);
        assert_ne!(named(&[]).as_str(), named(&[]).as_str());
    }

    #[test]
    fn a_trace_is_read_as_its_standard_has_it() {
        let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let found = named(&[(TRACEPARENT, good.as_bytes())]);
        assert_eq!((found.as_str(), found.trace()), (TRACE, Some(TRACE)));
        let both = named(&[(TRACEPARENT, good.as_bytes()), (REQUEST_ID, b"mine")]);
        assert_eq!((both.as_str(), both.trace()), ("mine", Some(TRACE)));
        let later = format!("cc-{TRACE}-00f067aa0ba902b7-01-what-the-future-has");
        assert_eq!(named(&[(TRACEPARENT, later.as_bytes())]).trace(), Some(TRACE));
        let zeros = "0".repeat(32);
        for bad in [
            String::new(),
            good[..54].to_owned(),
            format!("{good}-x"),
            good.to_uppercase(),
            good.replace("00-4", "ff-4"),
            good.replace('-', "_"),
            good.replace(TRACE, &zeros),
            good.replace("00f067aa0ba902b7", &zeros[..16]),
            good.replace("4bf9", "4bgz"),
        ] {
            let found = named(&[(TRACEPARENT, bad.as_bytes())]);
            assert_eq!(found.trace(), None, "{bad}");
            assert_eq!(found.as_str().len(), 32);
        }
    }

    proptest::proptest! {
        #[test]
        fn every_name_can_be_written_anywhere(value in proptest::collection::vec(32_u8..=255, 0..200)) {
            proptest::prop_assume!(!value.contains(&127));
            for header in [REQUEST_ID, TRACEPARENT] {
                let found = named(&[(header, &value)]);
                proptest::prop_assert!(is_plain(found.as_str().as_bytes()));
            }
        }
    }
}
