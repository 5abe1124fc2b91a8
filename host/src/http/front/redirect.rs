//! From plain HTTP to TLS.
//!
//! Owns the answer that sends a client to the same thing under `https`. Health is answered where it is asked
//! for: who probes a port looks at that port.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::IntoResponse as _;
use futures_util::future::Either;
use http::uri::Authority;
use http::{HeaderValue, Request, Response, StatusCode, header};
use tower_service::Service;

use crate::error::Error;

/// How the paths begin that are answered here.
const HERE: [&str; 2] = ["/v2/health/", "/grpc.health.v1.Health/"];

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

type Answer = Result<Response<Body>, Infallible>;

impl<S> Service<Request<Body>> for Redirect<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Answer>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let stays = HERE.iter().any(|path| request.uri().path().starts_with(path));
        match self.port.filter(|_| !stays) {
            Some(port) => Either::Left(ready(Ok(elsewhere(&request, port)))),
            None => Either::Right(self.inner.call(request)),
        }
    }
}

/// 308: the method and the body stay what they are.
fn elsewhere(request: &Request<Body>, port: u16) -> Response<Body> {
    let Some(location) = location(request, port) else {
        return Error::invalid("the request has no usable 'host'; ask for it with https://").into_response();
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    response
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
            let answer = elsewhere(&asked(host, uri), port);
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
