//! A request that is sent again and again, or several that differ in their bodies.
//!
//! Everything is made once: sending it copies reference counts and one small header map.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use http_body_util::Full;

use super::super::error::ClientError;
use super::super::exchange::{AGENT, Outgoing};
use super::super::host::Host;
use super::draw::Draw;

/// A request for one host, in the form of one HTTP version.
#[derive(Clone, Debug)]
pub(in crate::client) struct Prepared {
    host: Host,
    method: Method,
    path: String,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    bodies: Arc<[Bytes]>,
    draw: Draw,
}

impl Prepared {
    /// Makes the request's parts. HTTP/1.1 asks for a path, h2 for an absolute URI.
    ///
    /// # Errors
    /// [`ClientError::Usage`] if the path makes no URI.
    pub(in crate::client) fn new(host: &Host, outgoing: Outgoing, http2: bool) -> Result<Self, ClientError> {
        let unusable =
            |reason: String| ClientError::Usage(format!("cannot ask for '{}': {reason}", outgoing.path));
        if !outgoing.path.starts_with('/') {
            return Err(unusable("a path begins with '/'".to_owned()));
        }
        let target = if http2 { host.url(&outgoing.path) } else { host.target(&outgoing.path) };
        let uri = target.parse().map_err(|error| unusable(format!("{error}")))?;
        let authority =
            HeaderValue::from_str(host.authority()).map_err(|error| unusable(error.to_string()))?;
        let mut headers = outgoing.headers;
        headers.entry(USER_AGENT).or_insert(AGENT);
        if !http2 {
            headers.entry(HOST).or_insert(authority);
        }
        let version = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        let path = host.target(&outgoing.path);
        let Outgoing { method, body, .. } = outgoing;
        let (bodies, draw) = (Arc::from([body]), Draw::new(1, 0.0, 0));
        Ok(Self { host: host.clone(), method, path, uri, version, headers, bodies, draw })
    }

    /// The same with bodies that are drawn for each request. There is at least one.
    pub(super) fn drawing(self, bodies: Vec<Bytes>, draw: Draw) -> Self {
        Self { bodies: bodies.into(), draw, ..self }
    }

    /// Whom to send it to.
    pub(super) const fn host(&self) -> &Host {
        &self.host
    }

    /// The method.
    pub(super) const fn method(&self) -> &Method {
        &self.method
    }

    /// Path and query string as sent.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// All headers; their values may be secrets.
    pub(super) const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body's length in bytes, in the mean if there are several.
    pub(super) fn body_length(&self) -> usize {
        self.bodies.iter().map(Bytes::len).sum::<usize>() / self.bodies.len().max(1)
    }

    /// The request, to be sent once.
    pub(super) fn request(&self) -> Request<Full<Bytes>> {
        let body = self.bodies.get(self.draw.take()).cloned().unwrap_or_default();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(path: &str) -> Outgoing {
        Outgoing { method: Method::GET, path: path.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    #[test]
    fn http1_asks_for_a_path_and_h2_for_a_uri() {
        let host: Host = "http://h:1/p".parse().unwrap();
        let one = Prepared::new(&host, outgoing("/a?b"), false).unwrap().request();
        assert_eq!(
            (one.uri().to_string().as_str(), &one.headers()[HOST]),
            ("/p/a?b", &"h:1".parse().unwrap())
        );
        let two = Prepared::new(&host, outgoing("/a?b"), true).unwrap().request();
        assert_eq!(two.uri(), "http://h:1/p/a?b");
        assert!(!two.headers().contains_key(HOST));
    }

    #[test]
    fn a_path_that_is_none_is_refused() {
        let host: Host = "http://h:1".parse().unwrap();
        for path in ["v2", "", "/a b", "@evil/"] {
            assert!(Prepared::new(&host, outgoing(path), true).is_err(), "{path}");
        }
    }
}
