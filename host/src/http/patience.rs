//! How long a client is willing to wait, as a header says it.
//!
//! Owns the header `x-request-timeout`, for clients whose body has no place for it. What its model and the server
//! allow is for `serving` to hold against it.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::config::duration_of;
use crate::error::Error;

const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");

/// From the request's arrival on; [`Duration::MAX`] if it does not say.
///
/// # Errors
/// `InvalidArgument` if it is there twice, or is no duration above zero.
pub(super) fn patience(headers: &HeaderMap) -> Result<Duration, Error> {
    let mut values = headers.get_all(REQUEST_TIMEOUT).iter();
    let Some(value) = values.next() else {
        return Ok(Duration::MAX);
    };
    let read = value.to_str().ok().filter(|_| values.next().is_none()).and_then(duration_of);
    read.filter(|patience| !patience.is_zero()).ok_or_else(|| {
        let shown: String = String::from_utf8_lossy(value.as_bytes()).chars().take(40).collect();
        Error::invalid(format!(
            "header '{REQUEST_TIMEOUT}': expected one duration like 500ms, 2s or 1m, got '{}'",
            shown.escape_default()
        ))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(values: &[&[u8]]) -> Result<Duration, Error> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(REQUEST_TIMEOUT, HeaderValue::from_bytes(value).unwrap());
        }
        patience(&headers)
    }

    #[test]
    fn a_duration_is_read_and_nothing_else() {
        assert_eq!(read(&[]).unwrap(), Duration::MAX);
        assert_eq!(read(&[b"250ms"]).unwrap(), Duration::from_millis(250));
        assert_eq!(read(&[b"2s"]).unwrap(), Duration::from_secs(2));
        for wrong in [&b""[..], b"5", b"0ms", b"-1s", b"soon", b"99999999999999999999h", b"\xff"] {
            let error = read(&[wrong]).unwrap_err();
            assert!(error.message.contains("x-request-timeout"), "{error}");
        }
        assert!(read(&[b"1s", b"2s"]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(32_u8..=255, 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let _any = patience(&HeaderMap::from_iter([(REQUEST_TIMEOUT, value)]));
            }
        }
    }
}
