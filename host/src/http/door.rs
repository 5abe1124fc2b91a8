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

/// The media type of gRPC, to which messages of another form than protobuf's add theirs.
const GRPC: &[u8] = b"application/grpc";

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

/// What a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Rest,
    Grpc,
    /// gRPC with messages that are not protobuf's.
    OtherGrpc,
}

/// What a request speaks, by its content type. gRPC-Web, which browsers would speak, is something else.
fn speaks(headers: &HeaderMap) -> Speaks {
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], http::HeaderValue::as_bytes);
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let of_grpc = media_type.split_at_checked(GRPC.len());
    match of_grpc.filter(|(start, _)| start.eq_ignore_ascii_case(GRPC)).map(|(_, rest)| rest) {
        Some([]) => Speaks::Grpc,
        Some(rest) if rest.eq_ignore_ascii_case(b"+proto") => Speaks::Grpc,
        Some([b'+', ..]) => Speaks::OtherGrpc,
        _ => Speaks::Rest,
    }
}

impl Service<Request<Body>> for Door {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<RouteFuture<Infallible>, Ready<Result<Response, Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let refusal = match (speaks(request.headers()), &mut self.rest, &mut self.grpc) {
            (Speaks::OtherGrpc, _, Some(_)) => {
                "messages of gRPC are those of protobuf here; send content-type application/grpc"
            }
            (Speaks::Grpc, _, Some(_)) if request.version() != Version::HTTP_2 => "gRPC needs HTTP/2",
            (Speaks::Grpc, _, Some(grpc)) => return Either::Left(grpc.call(request)),
            (Speaks::Rest, Some(rest), _) => return Either::Left(rest.call(request)),
            (Speaks::Grpc | Speaks::OtherGrpc, _, None) => {
                "gRPC is not served at this address; see server.grpc"
            }
            (Speaks::Rest, None, _) => {
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
        let found = |content_type: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
            speaks(&headers)
        };
        for call in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;charset=utf-8",
            "Application/gRPC+Proto ; charset=utf-8",
        ] {
            assert_eq!(found(call), Speaks::Grpc, "{call}");
        }
        for other in ["application/grpc+json", "application/grpc+", "application/grpc+protox"] {
            assert_eq!(found(other), Speaks::OtherGrpc, "{other}");
        }
        for other in [
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpcx",
            "application/json",
            "",
        ] {
            assert_eq!(found(other), Speaks::Rest, "{other}");
        }
        assert_eq!(speaks(&HeaderMap::new()), Speaks::Rest);
    }
}
