//! The host that a command talks to, from its URL.
//!
//! Owns the check of the URL and the making of request paths. It never opens a connection.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::tls::ClientTls;

/// All but RFC 3986's unreserved characters.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where a host listens: `http://name:port` or `https://name:port`, optionally with a path that all requests
/// begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    secure: bool,
    tls: Option<ClientTls>,
    authority: String,
    name: String,
    port: u16,
    prefix: String,
}

impl Host {
    /// The name or address to connect to, without the brackets of an IPv6 address.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the URL asks for TLS.
    pub(super) const fn is_secure(&self) -> bool {
        self.secure
    }

    /// How TLS is spoken; `None` for a host without it.
    pub(super) const fn tls(&self) -> Option<&ClientTls> {
        self.tls.as_ref()
    }

    /// The same host, asked in this way.
    pub(super) fn with_tls(self, tls: ClientTls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    const fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The port to connect to; 80 if the URL names none, 443 with TLS.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// `name:port` as the URL has it: the `Host` header.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// The request target of `path`, which begins with `/` and may have a query string.
    pub(super) fn target(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// The absolute form of `path`.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{self}{path}")
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let (secure, rest) = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, _)) => {
                return Err(format!("'{scheme}' is no scheme for a host: expected http:// or https://"));
            }
            None => return Err(format!("the URL needs its scheme: did you mean http://{url}?")),
        };
        if rest.contains(['?', '#']) {
            return Err("the host's URL takes no query string and no fragment".to_owned());
        }
        let uri: Uri = format!("http://{rest}").parse().map_err(|error| format!("no URL: {error}"))?;
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let authority = authority.ok_or("the URL names no host")?;
        if authority.as_str().contains('@') {
            return Err("the URL takes no user name; send --header 'Authorization: …'".to_owned());
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") if secure => 443,
            Some("") => 80,
            _ => authority.port_u16().ok_or("the URL's port is no number from 0 to 65535")?,
        };
        Ok(Self {
            secure,
            tls: None,
            authority: authority.as_str().to_owned(),
            name: authority.host().trim_matches(['[', ']']).to_owned(),
            port,
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority, self.prefix)
    }
}

/// `/predict/{model}` or `/predict/{model}/{version}`, with the parameters as its query string.
pub(super) fn predict_path(model: &str, version: Option<&str>, parameters: &[(String, String)]) -> String {
    let mut path = format!("/predict/{}", encoded(model));
    if let Some(version) = version {
        path.push('/');
        path.push_str(&encoded(version));
    }
    for (index, (name, value)) in parameters.iter().enumerate() {
        path.push(if index == 0 { '?' } else { '&' });
        path.push_str(&encoded(name));
        path.push('=');
        path.push_str(&encoded(value));
    }
    path
}

/// `/v2/models/{model}` or `/v2/models/{model}/versions/{version}`.
pub(super) fn model_path(model: &str, version: Option<&str>) -> String {
    match version {
        Some(version) => format!("/v2/models/{}/versions/{}", encoded(model), encoded(version)),
        None => format!("/v2/models/{}", encoded(model)),
    }
}

/// `/admin/models/{model}/{tail}`.
pub(super) fn admin_path(model: &str, tail: &str) -> String {
    format!("/admin/models/{}/{tail}", encoded(model))
}

fn encoded(segment: &str) -> String {
    utf8_percent_encode(segment, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_name_port_and_prefix() {
        let host: Host = "http://127.0.0.1:8080".parse().unwrap();
        assert_eq!((host.name(), host.port(), host.authority()), ("127.0.0.1", 8080, "127.0.0.1:8080"));
        assert_eq!(host.target("/v2?a=b"), "/v2?a=b");
        let host: Host = "HTTP://[::1]:9/a/b/".parse().unwrap();
        assert_eq!((host.name(), host.port(), host.authority()), ("::1", 9, "[::1]:9"));
        assert_eq!(host.url("/v2"), "http://[::1]:9/a/b/v2");
        assert_eq!("http://example".parse::<Host>().unwrap().port(), 80);
        assert_eq!(host.to_string(), "http://[::1]:9/a/b");
        let host: Host = "HTTPS://example/a".parse().unwrap();
        assert_eq!(
            (host.port(), host.is_secure(), host.url("/v2")),
            (443, true, "https://example/a/v2".to_owned())
        );
    }

    #[test]
    fn a_url_that_cannot_be_used_says_why() {
        let refusal = |url: &str| url.parse::<Host>().unwrap_err();
        assert!(refusal("127.0.0.1:8080").contains("did you mean http://127.0.0.1:8080?"));
        assert!(refusal("unix://x").contains("expected http:// or https://"));
        assert!(refusal("http://u:p@h").contains("Authorization"));
        assert!(refusal("http://h?x=1").contains("query"));
        for wrong in ["http://", "http://:80", "http://h:99999", "http://h:", "http://a b", "http://h:x"] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_are_percent_encoded() {
        let parameters = [("k".to_owned(), "5".to_owned()), ("q&".to_owned(), "a b=é".to_owned())];
        assert_eq!(predict_path("cat", None, &[]), "/predict/cat");
        assert_eq!(predict_path("a/b", Some("1"), &parameters), "/predict/a%2Fb/1?k=5&q%26=a%20b%3D%C3%A9");
        assert_eq!(model_path("m", Some("2 ")), "/v2/models/m/versions/2%20");
    }
}
