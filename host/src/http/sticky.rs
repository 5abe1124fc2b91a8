//! What a request says that keeps it at one arm.
//!
//! Owns the reading of headers and cookies for it. Which arm a key leads to is the traffic's.

use http::{HeaderMap, HeaderName, header};

use crate::config::Sticky;

/// The key of a request, as far as its headers and its caller's verified name have it; `None` if they do not, or if
/// the key is elsewhere.
pub(crate) fn key<'a>(sticky: &Sticky, headers: &'a HeaderMap, subject: Option<&'a str>) -> Option<&'a [u8]> {
    match sticky {
        Sticky::Header(name) => {
            let name = HeaderName::try_from(name.as_str()).ok()?;
            headers.get(name).map(http::HeaderValue::as_bytes).filter(|value| !value.is_empty())
        }
        Sticky::Cookie(name) => cookie(headers, name),
        // Only who has shown who it is has one.
        Sticky::JwtSubject => subject.map(str::as_bytes),
        Sticky::Body | Sticky::None => None,
    }
}

/// The first cookie of that name, over all `cookie` headers.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let lines = headers.get_all(header::COOKIE).into_iter().map(http::HeaderValue::as_bytes);
    let pairs = lines.flat_map(|line| line.split(|&byte| byte == b';')).map(<[u8]>::trim_ascii);
    let mut found = pairs.filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    found.next().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_headers_and_cookies() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", "ann".parse().unwrap());
        headers.append(header::COOKIE, "theme=dark; sid=one; sid=two".parse().unwrap());
        headers.append(header::COOKIE, "late=x".parse().unwrap());
        let header = |name: &str| Sticky::Header(name.to_owned());
        let cookie = |name: &str| Sticky::Cookie(name.to_owned());
        assert_eq!(key(&header("x-user"), &headers, None), Some(b"ann".as_slice()));
        assert_eq!(key(&header("x-other"), &headers, None), None);
        assert_eq!(key(&cookie("sid"), &headers, None), Some(b"one".as_slice()));
        assert_eq!(key(&cookie("late"), &headers, None), Some(b"x".as_slice()));
        assert_eq!(key(&cookie("si"), &headers, None), None);
        assert_eq!(key(&cookie("dark"), &headers, None), None);
        assert_eq!(key(&Sticky::JwtSubject, &headers, Some("ann")), Some(b"ann".as_slice()));
        assert_eq!(key(&Sticky::JwtSubject, &headers, None), None);
    }

    #[test]
    fn odd_cookies_are_no_keys() {
        for line in ["", "=", "sid", "sid=", ";;;", "xsid=1", "sid ;= x"] {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, line.parse().unwrap());
            assert_eq!(key(&Sticky::Cookie("sid".to_owned()), &headers, None), None, "{line}");
        }
    }
}
