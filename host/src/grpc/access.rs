//! One line for each call, the count of statuses, and the host's own words for what tonic refuses.
//!
//! Owns what is last done to an answer. The line's form is that of HTTP.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt as _;
use http::HeaderValue;
use tonic::{Code, Status};

use super::arriving::exhausted;
use super::failure;
use crate::auth::Caller;
use crate::error::{Error, ErrorCode};
use crate::http::access::{Asked, Line, Served, panicked, write};
use crate::http::front::reserve;
use crate::http::open::is_health;
use crate::http::reply::Failed;
use crate::http::request_id::{REQUEST_ID, RequestId};
use crate::http::state::AppState;

/// Which encodings messages may have, as gRPC wants it told with a refusal.
const READS: HeaderValue = HeaderValue::from_static("gzip,zstd,identity");

/// Counts each call and, if wanted, writes its line: when it has been answered, or when its answers begin.
pub(super) async fn record(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::of(request.headers());
    let asked = Asked::of(&request);
    let path: String = request.uri().path().chars().take(200).collect();
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answered.unwrap_or_else(|_| failure::status(&panicked(), None).into_http());
    if !is_health(&path) {
        within_memory(&mut response, &state);
    }
    let failed = settle(&mut response, &path, state.max_message());
    response.headers_mut().insert(REQUEST_ID, id.header());
    let code = response.headers().get(Status::GRPC_STATUS);
    let code = code.map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
    state.metrics().responded(response.status().as_u16());
    state.metrics().grpc_responded(failure::name(code));
    if state.access_log() {
        let extensions = response.extensions();
        let of_error = || extensions.get::<Status>().and_then(failure::served);
        write(&Line {
            asked: &asked,
            status: response.status().as_u16(),
            grpc_status: Some(failure::name(code)),
            took: started.elapsed(),
            id: &id,
            served: extensions.get::<Served>().or_else(of_error),
            failed: failed.as_ref(),
            caller: extensions.get::<Caller>(),
        });
    }
    response
}

/// Takes the memory of an answer, which its client may read as slowly as it likes, or puts a status in its place.
fn within_memory(response: &mut Response, state: &AppState) {
    let Err(error) = reserve(response, &state.bodies().memory).map_err(exhausted) else {
        return;
    };
    let caller = response.extensions_mut().remove::<Caller>();
    *response = failure::status(&error, None).into_http();
    if let Some(caller) = caller {
        response.extensions_mut().insert(caller);
    }
}

/// Puts the host's words in the place of tonic's. Returns how the call failed, if it did.
fn settle(response: &mut Response, path: &str, limit: usize) -> Option<Failed> {
    let code = Code::from_bytes(response.headers().get(Status::GRPC_STATUS)?.as_bytes());
    if code == Code::Ok {
        return None;
    }
    let status = response.extensions().get::<Status>();
    let error = match status {
        Some(status) => match failure::own(status) {
            Some(error) => return Some(Failed(error)),
            None => failure::translate(status, limit),
        },
        None => Error::new(ErrorCode::Unimplemented, format!("there is no gRPC method {path}")),
    };
    let names_encodings = status.is_some_and(|status| status.code() == Code::Unimplemented);
    let caller = response.extensions_mut().remove::<Caller>();
    *response = failure::status(&error, None).into_http();
    if let Some(caller) = caller {
        response.extensions_mut().insert(caller);
    }
    if names_encodings {
        response.headers_mut().insert("grpc-accept-encoding", READS);
    }
    Some(Failed(error))
}
