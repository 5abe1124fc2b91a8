//! From plain HTTP to TLS.
//!
//! Owns the answer that sends a client to the same thing under `https`. Health is answered where it is asked
//! for: who probes a port looks at that port.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::body::Body;
use http::uri::Authority;
use http::{HeaderValue, Request, Response, header};
use tower_service::Service;

use super::settled::Settled;
use crate::error::Error;
use crate::http::open::is_health;

/// A service in front of which clients are sent elsewhere.
#[derive(Clone, Debug)]
pub struct Redirect<S> {
    inner: S,
    port: Option<u16>,
}

impl<S> Redirect<S> {
    /// Sends clients to this port; `None` lets all through.
    pub fn new(inner: S, port: Option<u16>) -> Self {
        Self { inner, port }
    }
}

impl<S> Service<Request<Body>> for Redirect<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(port) = self.port.filter(|_| !is_health(request.uri().path())) {
            elsewhere(&request, port).leave(request.extensions_mut());
        }
        self.inner.call(request)
    }
}

fn elsewhere(request: &Request<Body>, port: u16) -> Settled {
    let unusable = || Error::invalid("the request has no usable 'host'; ask for it with https://");
    location(request, port).map_or_else(|| Settled::Refused(unusable()), Settled::Elsewhere)
}

fn location(request: &Request<Body>, port: u16) -> Option<HeaderValue> {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let named = request.uri().authority().map(Authority::as_str).or(header)?;
    let authority: Authority = named.parse().ok().filter(|_| !named.contains('@'))?;
    let host = authority.host();
    let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let path = if path.starts_with('/') { path } else { "/" };
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    HeaderValue::try_from(format!("https://{host}{port}{path}")).ok().filter(|_| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: Option<&str>, uri: &str) -> Request<Body> {
        let mut request = Request::builder().uri(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn the_same_thing_is_found_under_https() {
        let at = |host: Option<&str>, uri: &str, port: u16| {
            let answer = elsewhere(&asked(host, uri), port).answer();
            let location = answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
            (answer.status().as_u16(), location)
        };
        let to = |location: &str| (308, Some(location.to_owned()));
        assert_eq!(at(Some("h.example:8080"), "/v2?a=b", 8443), to("https://h.example:8443/v2?a=b"));
        assert_eq!(at(Some("h.example"), "/", 443), to("https://h.example/"));
        assert_eq!(at(Some("[::1]:80"), "/a", 8443), to("https://[::1]:8443/a"));
        assert_eq!(at(Some("other"), "http://h.example:1/a", 443), to("https://h.example/a"));
        for host in [None, Some(""), Some("a b"), Some("u@h"), Some(":80"), Some("h/../x"), Some("h?x#y")] {
            assert_eq!(at(host, "/a", 443), (400, None), "{host:?}");
        }
    }
}
