//! One line for each request, and the count of responses.
//!
//! Owns the access log's form. Handlers leave what they know in the response's extensions.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;

use super::reply::Failed;
use super::state::AppState;
use crate::auth::{Caller, Origin};
use crate::error::Error;
use crate::pipeline::{Stage, StageTimes};

/// What a handler knows of the inference that it served.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) model: String,
    pub(super) version: String,
    pub(super) times: StageTimes,
}

/// Counts each response and, if wanted, writes its line.
pub(super) async fn record(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    if !state.access_log() {
        let response = run(next, request).await;
        state.metrics().responded(response.status().as_u16());
        return response;
    }
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let http_version = request.version();
    let certificate = request.extensions().get::<Origin>().and_then(|origin| origin.certificate.clone());
    let response = run(next, request).await;
    state.metrics().responded(response.status().as_u16());
    let took_us = micros(started.elapsed());
    let (status, path) = (response.status().as_u16(), cut(uri.path()));
    let served = response.extensions().get::<Served>();
    let failed = response.extensions().get::<Failed>();
    let caller = response.extensions().get::<Caller>();
    let times = served.map(|served| served.times).unwrap_or_default();
    let stage = |stage| times.get(stage).map(micros);
    tracing::info!(
        target: "access",
        %method,
        path,
        status,
        took_us,
        http = ?http_version,
        model = served.map(|served| served.model.as_str()),
        version = served.map(|served| served.version.as_str()),
        subject = caller.and_then(Caller::subject).map(cut),
        preprocess_us = stage(Stage::Preprocess),
        queue_us = stage(Stage::Queue),
        infer_us = stage(Stage::Infer),
        postprocess_us = stage(Stage::Postprocess),
        plugin_cpu_us = Some(micros(times.plugin_cpu())).filter(|&us| us > 0),
        client = certificate.as_deref().map(cut),
        code = failed.map(|failed| failed.code.as_str()),
        error = failed.map(|failed| cut(&failed.message)),
        "request"
    );
    response
}

/// Runs the handler. A panic in it is a bug of the host; it costs one answer, not the connection.
async fn run(next: Next, request: Request) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => Error::internal("the host failed at this request; its log says more").into_response(),
    }
}

/// Bytes of a text from outside that a line holds.
const MOST: usize = 512;

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MOST)]
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
