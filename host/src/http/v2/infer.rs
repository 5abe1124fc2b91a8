//! `POST /v2/models/{model}[/versions/{version}]/infer`: tensors in, tensors out, without the plugin.
//!
//! Owns the order of this request: find, read, run, write.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;

use super::codec::InferRequest;
use super::wire;
use crate::error::{Error, ErrorCode};
use crate::http::serving::Serving;
use crate::http::state::AppState;
use crate::http::target::Target;
use crate::model::tensor::Tensor;
use crate::pipeline::{self, Asked, PredictOutput};
use crate::scheduler::Terms;
use crate::telemetry::Endpoint;

pub(super) async fn infer(
    State(state): State<AppState>,
    target: Target,
    request: Request,
) -> Result<Response, Error> {
    let (head, mut body) = request.into_parts();
    let mut serving = Serving::begin(&state, &target, Endpoint::Infer, (&head, &mut body)).await?;
    let answer = match serving.body(&state, &head.headers, body).await {
        Ok(body) => answer(&state, &mut serving, &head.headers, &body).await,
        Err(error) => Err(error),
    };
    Ok(serving.finish(answer))
}

/// Read, run, write.
pub(in crate::http) async fn answer(
    state: &AppState,
    serving: &mut Serving,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, Error> {
    let mut request = wire::read(&serving.generation, headers, body, state.max_body())?;
    let outputs = run(state, serving, &mut request).await?;
    wire::write(&serving.generation, &request, outputs)
}

/// What is the same on every protocol, once the request has been read. It takes the inputs out of the request.
pub(crate) async fn run(
    state: &AppState,
    serving: &mut Serving,
    request: &mut InferRequest,
) -> Result<Vec<Tensor>, Error> {
    refuse_unserved(request)?;
    let patience = request.timeout_us()?.map_or(Duration::MAX, Duration::from_micros).min(serving.patience);
    let deadline = serving.deadline(patience.min(state.request_timeout()));
    serving.hurried = patience < state.request_timeout();
    let terms = Terms { deadline, priority: request.priority()? };
    let inputs = std::mem::take(&mut request.inputs);
    let wanted = request.outputs.iter().map(|output| output.name.as_str());
    let kept = serving.keep(|| Asked::Infer(inputs.clone(), wanted.clone().map(str::to_owned).collect()));
    let outputs = pipeline::infer(&serving.generation, inputs, wanted, terms, &mut serving.times).await;
    if kept.is_some() {
        let primary = outputs.clone().map(PredictOutput::Tensors).map_err(|error| error.code);
        serving.mirror(state, kept, primary);
    }
    outputs
}

/// The extensions that are not advertised are refused, never silently ignored.
pub(in crate::http) fn refuse_unserved(request: &InferRequest) -> Result<(), Error> {
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
