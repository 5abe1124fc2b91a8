//! `POST /v2/models/{model}[/versions/{version}]/infer`: tensors in, tensors out, without the plugin.
//!
//! Owns the order of this request: find, read, run, write.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;

use super::codec::{self, InferRequest};
use super::wire;
use crate::error::{Error, ErrorCode};
use crate::http::openapi::schemas;
use crate::http::serving::Serving;
use crate::http::state::AppState;
use crate::http::target::Target;
use crate::model::tensor::Tensor;
use crate::pipeline::{self, Asked, Generation, PredictOutput};
use crate::scheduler::Terms;
use crate::telemetry::Endpoint;

#[utoipa::path(
    post,
    path = "/v2/models/{model}/infer",
    tag = "v2",
    params(("model" = String, Path, description = "the model's name, or `name@version`")),
    request_body(
        content((schemas::InferRequest = "application/json"), (schemas::AnyBytes = "application/octet-stream")),
        description = "with binary tensors behind the JSON where the header inference-header-content-length says where it ends"
    ),
    responses((status = 200, description = "the outputs", content((schemas::InferResponse = "application/json"), (schemas::AnyBytes = "application/octet-stream"))))
)]
pub(in crate::http) async fn infer(
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
    let mut request = match wire::parse(headers, body, state.max_body())? {
        codec::Body::Request(request) => request,
        // Which tensor it is, the model alone can say.
        raw => {
            let deadline = serving.deadline(state, None);
            let generation = serving.generation(state, deadline).await?;
            wire::resolve(&generation, raw)?
        }
    };
    let (generation, outputs) = run(state, serving, &mut request).await?;
    wire::write(&generation, &request, outputs)
}

/// What is the same on every protocol, once the request has been read. It takes the inputs out of the request.
pub(crate) async fn run(
    state: &AppState,
    serving: &mut Serving,
    request: &mut InferRequest,
) -> Result<(Arc<Generation>, Vec<Tensor>), Error> {
    refuse_unserved(request)?;
    let (own, priority) = (request.timeout_us()?.map(Duration::from_micros), request.priority()?);
    let deadline = serving.deadline(state, own);
    let generation = serving.generation(state, deadline).await?;
    let terms = Terms { deadline, priority };
    let inputs = std::mem::take(&mut request.inputs);
    let wanted = request.outputs.iter().map(|output| output.name.as_str());
    let outputs = run_tensors(state, serving, &generation, (inputs, wanted), terms).await?;
    Ok((generation, outputs))
}

/// Runs the model, and asks the mirror the same if there is one.
pub(in crate::http) async fn run_tensors<'a>(
    state: &AppState,
    serving: &mut Serving,
    generation: &Arc<Generation>,
    (inputs, wanted): (Vec<Tensor>, impl ExactSizeIterator<Item = &'a str> + Clone),
    terms: Terms,
) -> Result<Vec<Tensor>, Error> {
    let kept = serving.keep(|| Asked::Infer(inputs.clone(), wanted.clone().map(str::to_owned).collect()));
    let outputs =
        pipeline::infer(generation, inputs, wanted, terms, &mut serving.visit, &mut serving.times).await;
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
    let sequence = request.parameters.iter().find(|(name, _)| name.starts_with("sequence_"));
    if let Some((name, _)) = sequence {
        return unserved(format!("parameter '{name}': the sequence extension"));
    }
    Ok(())
}
