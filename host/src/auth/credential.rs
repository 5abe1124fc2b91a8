//! What a request shows of its caller.
//!
//! Owns the reading of `authorization` and `x-api-key`, in which gRPC metadata come too.

use http::{HeaderMap, HeaderName, header};

use super::api_key::is_api_key;

/// The header for an API key.
pub(super) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The longest token or key, in bytes. Longer ones are not looked at.
pub(super) const LONGEST: usize = 8 << 10;

const SCHEME: &str = "bearer";

/// What there is to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credential<'a> {
    /// Nothing was shown.
    None,
    /// A token.
    Token(&'a str),
    /// An API key.
    ApiKey(&'a str),
}

/// The one credential of a request, or why it cannot be one.
pub(super) fn credential(headers: &HeaderMap) -> Result<Credential<'_>, &'static str> {
    let key = only(headers, &API_KEY)?;
    let Some(authorization) = only(headers, &header::AUTHORIZATION)? else {
        return Ok(key.map_or(Credential::None, Credential::ApiKey));
    };
    if key.is_some() {
        return Err("both authorization and x-api-key are there");
    }
    let (scheme, shown) = authorization.split_once(' ').ok_or("authorization names no scheme")?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err("the scheme of authorization is not Bearer");
    }
    let shown = shown.trim_matches(' ');
    if shown.is_empty() || shown.contains(' ') {
        return Err("authorization has no single token");
    }
    Ok(if is_api_key(shown) { Credential::ApiKey(shown) } else { Credential::Token(shown) })
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, &'static str> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err("a header of credentials is there twice");
    }
    if value.len() > LONGEST {
        return Err("a header of credentials is too long");
    }
    value.to_str().map(Some).map_err(|_| "a header of credentials is no ASCII text")
}

/// Keeps credentials out of whatever shows headers from now on.
pub(super) fn hide(headers: &mut HeaderMap) {
    for name in [header::AUTHORIZATION, API_KEY, header::COOKIE, header::PROXY_AUTHORIZATION] {
        if let header::Entry::Occupied(mut values) = headers.entry(name) {
            values.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn one_credential_is_found() {
        assert_eq!(credential(&HeaderMap::new()), Ok(Credential::None));
        for text in ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c"] {
            assert_eq!(credential(&headers(&[("authorization", text)])), Ok(Credential::Token("a.b.c")));
        }
        assert_eq!(credential(&headers(&[("x-api-key", "k")])), Ok(Credential::ApiKey("k")));
        let key = format!("nuke_{}_{}", "a".repeat(12), "b".repeat(64));
        let bearer = headers(&[("authorization", &format!("Bearer {key}"))]);
        assert_eq!(credential(&bearer), Ok(Credential::ApiKey(key.as_str())));
    }

    #[test]
    fn what_is_ambiguous_or_odd_is_refused() {
        for wrong in ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "a.b.c", "Bearer a b", "Bearer  "] {
            assert!(credential(&headers(&[("authorization", wrong)])).is_err(), "{wrong}");
        }
        assert!(
            credential(&headers(&[("authorization", "Bearer a"), ("authorization", "Bearer a")])).is_err()
        );
        assert!(credential(&headers(&[("authorization", "Bearer a"), ("x-api-key", "k")])).is_err());
        assert!(credential(&headers(&[("x-api-key", "k"), ("x-api-key", "k")])).is_err());
        let long = format!("Bearer {}", "x".repeat(LONGEST));
        assert!(credential(&headers(&[("authorization", &long)])).is_err());
    }

    #[test]
    fn hidden_headers_show_nothing() {
        let mut shown =
            headers(&[("authorization", "Bearer s3cret"), ("x-api-key", "s3cret"), ("accept", "open")]);
        hide(&mut shown);
        let text = format!("{shown:?}");
        assert!(!text.contains("s3cret") && text.contains("open"), "{text}");
    }

    proptest! {
        #[test]
        fn any_bytes_in_headers_are_judged(authorization in prop::collection::vec(any::<u8>(), 0..40), key in any::<Vec<u8>>()) {
            let mut headers = HeaderMap::new();
            headers.extend(HeaderValue::from_bytes(&authorization).ok().map(|value| (header::AUTHORIZATION, value)));
            headers.extend(HeaderValue::from_bytes(&key).ok().map(|value| (API_KEY, value)));
            let _ = credential(&headers);
        }
    }
}
