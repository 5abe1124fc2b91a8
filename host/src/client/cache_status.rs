//! What an answer says of the caches that it went through (RFC 9211).
//!
//! Owns the reading of `cache-status`: a list of caches, that of the host first, the one nearest to the client last.
//! Any bytes are read; what is malformed says nothing.

use http::{HeaderMap, HeaderName};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// How the host calls its own cache.
const OWN_NAME: &[u8] = b"nuke";

/// What became of an answer at the host's own cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was remembered already, or was computed for another request at the same time.
    Hit,
    /// It was computed, and is remembered now.
    Stored,
    /// It was computed, and is not remembered.
    NotStored,
    /// The same, since answers are remembered for each caller, and this one has not shown who it is.
    Anonymous,
}

/// What the host's own cache says; `None` if the answer went through none.
pub(super) fn of_host(headers: &HeaderMap) -> Option<Verdict> {
    let is_own = |member: &&[u8]| parts(member).next().is_some_and(|name| unquoted(name) == OWN_NAME);
    let own = members(headers).filter(is_own).last()?;
    let has = |word: &[u8]| parts(own).skip(1).any(|part| part == word);
    Some(match (has(b"hit"), has(b"stored"), has(b"collapsed")) {
        (true, ..) | (_, false, true) => Verdict::Hit,
        (false, true, _) => Verdict::Stored,
        _ if has(b"detail=anonymous") => Verdict::Anonymous,
        (false, false, false) => Verdict::NotStored,
    })
}

/// Whether the cache nearest to the client had the answer; `None` if there is no cache.
pub(super) fn nearest_is_hit(headers: &HeaderMap) -> Option<bool> {
    members(headers).last().map(|nearest| parts(nearest).skip(1).any(|part| part == b"hit"))
}

/// The caches, over all fields of the name.
fn members(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let fields = headers.get_all(CACHE_STATUS).iter();
    fields.flat_map(|field| outside_quotes(field.as_bytes(), b',')).filter(|member| !member.is_empty())
}

/// A cache's name, and what it says.
fn parts(member: &[u8]) -> impl Iterator<Item = &[u8]> {
    outside_quotes(member, b';')
}

/// The trimmed pieces between separators that are in no quoted string.
fn outside_quotes(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let pieces = bytes.split(move |&byte| {
        let was_escaped = is_escaped;
        is_escaped = is_quoted && !was_escaped && byte == b'\\';
        is_quoted ^= byte == b'"' && !was_escaped;
        byte == separator && !is_quoted
    });
    pieces.map(<[u8]>::trim_ascii)
}

fn unquoted(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[&[u8]]) -> HeaderMap {
        let fields = fields.iter().filter_map(|field| HeaderValue::from_bytes(field).ok());
        fields.map(|value| (CACHE_STATUS, value)).collect()
    }

    fn own(field: &str) -> Option<Verdict> {
        of_host(&headers(&[field.as_bytes()]))
    }

    #[test]
    fn the_hosts_own_word_is_found_among_others() {
        assert_eq!(own("nuke; hit; ttl=59; detail=memory"), Some(Verdict::Hit));
        assert_eq!(own("nuke; fwd=miss; stored"), Some(Verdict::Stored));
        assert_eq!(own("\"nuke\";fwd=request;stored, Edge; hit"), Some(Verdict::Stored));
        assert_eq!(own("nuke; fwd=miss; collapsed"), Some(Verdict::Hit));
        assert_eq!(own("nuke; fwd=miss; stored; collapsed"), Some(Verdict::Stored));
        assert_eq!(own("nuke; fwd=bypass"), Some(Verdict::NotStored));
        assert_eq!(own("nuke; fwd=bypass; detail=anonymous"), Some(Verdict::Anonymous));
        assert_eq!(own("nuke; detail=\"x; stored, nuke; hit\""), Some(Verdict::NotStored));
        assert_eq!(own("nuke; detail=\"\\\"; hit\"; stored"), Some(Verdict::Stored));
        for none in ["", ",", "Edge; hit", "nukes; hit", "; hit", "hit", "\"nuke; hit"] {
            assert_eq!(own(none), None, "{none}");
        }
        assert_eq!(of_host(&headers(&[b"Edge; hit", b"nuke; fwd=miss; stored"])), Some(Verdict::Stored));
    }

    #[test]
    fn a_hit_is_the_nearest_caches_word() {
        let nearest = |text: &str| nearest_is_hit(&headers(&[text.as_bytes()]));
        assert_eq!(nearest("nuke; hit; ttl=3"), Some(true));
        assert_eq!(nearest("other; fwd=miss, nuke;hit"), Some(true));
        assert_eq!(nearest("nuke; fwd=uri-miss; stored"), Some(false));
        assert_eq!(nearest("nuke; hit, other; fwd=miss"), Some(false));
        assert_eq!((nearest(""), nearest_is_hit(&HeaderMap::new())), (None, None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(fields in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4)) {
            let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
            of_host(&headers(&fields));
            nearest_is_hit(&headers(&fields));
        }
    }
}
