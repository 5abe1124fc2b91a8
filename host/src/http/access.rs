//! Around every request: its name, the count of responses, one line in the log, and how the answer goes out.
//!
//! Owns the access log's form. Handlers leave what they know in the response's extensions.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::{HeaderName, Method, Uri, Version, header};

use super::compression::{self, Wanted};
use super::front::reserve;
use super::open::needs_no_memory;
use super::reply::{self, Failed};
use super::request_id::{REQUEST_ID, RequestId};
use super::server_timing;
use super::state::AppState;
use crate::auth::{Caller, Origin};
use crate::error::Error;
use crate::pipeline::{Stage, StageTimes};

const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// What a handler knows of the inference that it served.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) times: StageTimes,
    /// What became of it at the answers that are remembered.
    pub(crate) recalled: Option<&'static str>,
}

/// Names the request, counts its response and, if wanted, writes its line.
pub(super) async fn record(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::of(request.headers());
    let coding = Wanted::of(request.headers());
    let timed = state.server_timing().wanted(request.headers());
    let asked = Asked::of(&request);
    let mut response = run(next, request).await;
    reply::name_request(&mut response, &id);
    if timed {
        server_timing::add(&mut response, started.elapsed());
    }
    let mut response = compression::compressed(response, &asked.method, coding, state.compression()).await;
    within_memory(&mut response, &state, &asked, &id);
    response.headers_mut().insert(REQUEST_ID, id.header());
    state.metrics().responded(response.status().as_u16());
    if state.access_log() {
        write(&Line {
            asked: &asked,
            status: response.status().as_u16(),
            grpc_status: None,
            took: started.elapsed(),
            id: &id,
            served: response.extensions().get::<Served>(),
            failed: response.extensions().get::<Failed>(),
            caller: response.extensions().get::<Caller>(),
        });
    }
    response
}

/// Takes the memory of an answer, which its client may read as slowly as it likes, or puts 503 in its place.
fn within_memory(response: &mut Response, state: &AppState, asked: &Asked, id: &RequestId) {
    if needs_no_memory(asked.uri.path()) {
        return;
    }
    let Err(error) = reserve(response, &state.bodies().memory) else {
        return;
    };
    for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING, HEADER_LENGTH] {
        response.headers_mut().remove(name);
    }
    let (refused, body) = error.into_response().into_parts();
    *response.status_mut() = refused.status;
    *response.body_mut() = body;
    response.headers_mut().extend(refused.headers);
    response.extensions_mut().extend(refused.extensions);
    reply::name_request(response, id);
}

/// What of a request its line tells.
#[derive(Debug)]
pub(crate) struct Asked {
    method: Method,
    uri: Uri,
    version: Version,
    /// The subject of the client's certificate.
    client: Option<Arc<str>>,
}

impl Asked {
    pub(crate) fn of(request: &Request) -> Self {
        let client = request.extensions().get::<Origin>().and_then(|origin| origin.certificate.clone());
        let (method, uri) = (request.method().clone(), request.uri().clone());
        Self { method, uri, version: request.version(), client }
    }
}

/// What is known of a request once it has been answered.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub(crate) asked: &'a Asked,
    pub(crate) status: u16,
    pub(crate) grpc_status: Option<&'static str>,
    pub(crate) took: Duration,
    pub(crate) id: &'a RequestId,
    pub(crate) served: Option<&'a Served>,
    pub(crate) failed: Option<&'a Failed>,
    pub(crate) caller: Option<&'a Caller>,
}

/// Writes the line of one request.
pub(crate) fn write(line: &Line<'_>) {
    let Line { asked, served, failed, caller, .. } = line;
    let times = served.map(|served| served.times).unwrap_or_default();
    let stage = |stage| times.get(stage).map(micros);
    tracing::info!(
        target: "access",
        method = %asked.method,
        path = cut(asked.uri.path()),
        status = line.status,
        grpc_status = line.grpc_status,
        took_us = micros(line.took),
        request_id = line.id.as_str(),
        trace_id = line.id.trace(),
        http = ?asked.version,
        model = served.map(|served| served.model.as_str()),
        version = served.map(|served| served.version.as_str()),
        subject = caller.and_then(Caller::subject).map(cut),
        load_us = stage(Stage::Load),
        recall_us = stage(Stage::Recall),
        cache = served.and_then(|served| served.recalled),
        preprocess_us = stage(Stage::Preprocess),
        queue_us = stage(Stage::Queue),
        infer_us = stage(Stage::Infer),
        postprocess_us = stage(Stage::Postprocess),
        plugin_cpu_us = Some(micros(times.plugin_cpu())).filter(|&us| us > 0),
        client = asked.client.as_deref().map(cut),
        code = failed.map(|failed| failed.0.code.as_str()),
        error = failed.map(|failed| cut(&failed.0.message)),
        "request"
    );
}

/// Runs the handler. A panic in it is a bug of the host; it costs one answer, not the connection.
async fn run(next: Next, request: Request) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => panicked().into_response(),
    }
}

/// What a client is told whose request met a bug of the host.
pub(crate) fn panicked() -> Error {
    Error::internal("the host failed at this request; its log says more")
}

/// Bytes of a text from outside that a line holds.
const MOST: usize = 512;

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MOST)]
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
