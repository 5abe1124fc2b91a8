//! What one listener serves: REST, gRPC, or both, told apart by content type.
//!
//! Owns that one decision. It knows no route.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use axum::routing::future::RouteFuture;
use futures_util::future::{Either, Ready, ready};
use http::{HeaderMap, Request, Version, header};
use tower_service::Service;

use super::front::Settled;
use super::reply;
use super::request_id::{REQUEST_ID, RequestId};
use crate::error::{Error, ErrorCode};

/// Where the requests of one listener go.
#[derive(Clone, Debug)]
pub struct Door {
    rest: Option<Router>,
    grpc: Option<Router>,
}

impl Door {
    /// REST alone.
    pub const fn rest(rest: Router) -> Self {
        Self { rest: Some(rest), grpc: None }
    }

    /// gRPC alone.
    pub const fn grpc(grpc: Router) -> Self {
        Self { rest: None, grpc: Some(grpc) }
    }

    /// Both.
    pub const fn both(rest: Router, grpc: Router) -> Self {
        Self { rest: Some(rest), grpc: Some(grpc) }
    }
}

/// Whether a request is a call of gRPC. gRPC-Web, which browsers would speak, is something else.
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let rest = content_type.and_then(|value| value.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

impl Service<Request<Body>> for Door {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<RouteFuture<Infallible>, Ready<Result<Response, Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let refusal = match (is_grpc(request.headers()), &mut self.rest, &mut self.grpc) {
            (true, _, Some(_)) if request.version() != Version::HTTP_2 => "gRPC needs HTTP/2",
            (true, _, Some(grpc)) => return Either::Left(grpc.call(request)),
            (false, Some(rest), _) => return Either::Left(rest.call(request)),
            (true, _, None) => "gRPC is not served at this address; see server.grpc",
            (false, None, _) => {
                "only gRPC is served at this address (server.grpc); ask for the rest at server.http"
            }
        };
        let error = Error::new(ErrorCode::UnsupportedMediaType, refusal);
        let Some(rest) = &mut self.rest else {
            return Either::Right(ready(Ok(named(&request, error))));
        };
        // Who reads no gRPC reads HTTP.
        Settled::Refused(error).leave(request.extensions_mut());
        Either::Left(rest.call(request))
    }
}

/// An error in the form of HTTP where only gRPC is served, which has another.
fn named(request: &Request<Body>, error: Error) -> Response {
    let id = RequestId::of(request.headers());
    let mut response = error.into_response();
    reply::name_request(&mut response, &id);
    response.headers_mut().insert(REQUEST_ID, id.header());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_by_their_content_type() {
        let asks = |content_type: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
            is_grpc(&headers)
        };
        for call in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            assert!(asks(call), "{call}");
        }
        for other in ["application/grpc-web", "application/grpc-web+proto", "application/json", ""] {
            assert!(!asks(other), "{other}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
