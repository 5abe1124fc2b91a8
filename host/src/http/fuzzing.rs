//! The front door's readers of headers and codings, for fuzzing alone.
//!
//! Owns nothing: it makes what is private to this module reachable for `crate::fuzzing`.

use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::compression::{Coding, Wanted, coding_of, expand};
use super::front::MemoryBudget;
use super::request_id::RequestId;
use super::v2::codec;

/// Reads lines of `name: value` as the host does; what goes on to an answer and the log is plain.
pub(crate) fn headers(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|&byte| byte == b'\n').take(200) {
        let mut parts = line.splitn(2, |&byte| byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let value = HeaderValue::from_bytes(value.trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.trim_ascii()), value) {
            headers.append(name, value);
        }
    }
    let id = RequestId::of(&headers);
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"'<>\\{}()&;,`$".contains(&byte);
    assert!((1..=128).contains(&id.as_str().len()) && id.as_str().bytes().all(plain), "{id:?}");
    assert!(id.trace().is_none_or(|trace| trace.len() == 32), "{id:?}");
    let _codings = (Wanted::of(&headers), coding_of(&headers));
    for value in headers.get_all(codec::HEADER_LENGTH) {
        let _length = codec::header_length(value.as_bytes());
    }
}

/// How much comes out of a body in the coding of this number; `None` if it is refused.
pub(crate) fn expanded_length(coding: u8, body: &[u8], limit: usize, deadline: Instant) -> Option<usize> {
    let coding = Coding::ALL.get(usize::from(coding) % Coding::ALL.len())?;
    expand(*coding, body, limit, deadline, &MemoryBudget::new(1 << 30)).ok().map(|bytes| bytes.len())
}
