//! `POST /v2/models/{model}[/versions/{version}]/infer`: tensors in, tensors out, without the plugin.
//!
//! Owns the order of this request: find, read, run, write.

use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::HeaderMap;

use super::codec::InferRequest;
use super::wire;
use crate::error::{Error, ErrorCode};
use crate::http::state::AppState;
use crate::http::target::Target;
use crate::http::{body, predict};
use crate::pipeline::{self, Generation, StageTimes};
use crate::telemetry::Endpoint;

pub(super) async fn infer(
    State(state): State<AppState>,
    target: Target,
    request: Request,
) -> Result<Response, Error> {
    let started = Instant::now();
    let generation = state.index().find(&target.model, target.version.as_deref())?;
    let (head, body) = request.into_parts();
    let deadline = started + state.request_timeout();
    let body = body::read(&head.headers, body, state.max_body(), deadline).await?;

    let _in_flight = generation.metrics().enter();
    let mut times = StageTimes::default();
    let answer = answer(&state, &generation, &head.headers, &body, started, &mut times).await;
    let outcome = answer.as_ref().map(|_| ()).map_err(|error| error.code);
    generation.metrics().finished(Endpoint::Infer, outcome, started.elapsed(), &times);
    Ok(predict::sign(answer.unwrap_or_else(Error::into_response), &generation, times))
}

async fn answer(
    state: &AppState,
    generation: &Generation,
    headers: &HeaderMap,
    body: &Bytes,
    started: Instant,
    times: &mut StageTimes,
) -> Result<Response, Error> {
    let mut request = wire::read(generation, headers, body, state.max_body())?;
    refuse_unserved(&request)?;
    let patience = request.timeout_us()?.filter(|&us| us > 0).map_or(Duration::MAX, Duration::from_micros);
    let deadline = started + patience.min(state.request_timeout());
    let inputs = std::mem::take(&mut request.inputs);
    let wanted = request.outputs.iter().map(|output| output.name.as_str());
    let outputs = pipeline::infer(generation, inputs, wanted, deadline, times).await?;
    wire::write(generation, &request, outputs)
}

/// The extensions that are not advertised are refused, never silently ignored.
fn refuse_unserved(request: &InferRequest) -> Result<(), Error> {
    let unserved = |what: String| {
        Err(Error::new(ErrorCode::Unimplemented, format!("{what} is not served by this version")))
    };
    if let Some(output) = request.outputs.iter().find(|output| output.classification.is_some()) {
        return unserved(format!("output '{}': the classification extension", output.name));
    }
    let sequence = request.parameters.iter().find(|(name, _)| name.starts_with("sequence_"));
    if let Some((name, _)) = sequence {
        return unserved(format!("parameter '{name}': the sequence extension"));
    }
    Ok(())
}
