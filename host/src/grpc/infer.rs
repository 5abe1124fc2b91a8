//! `ModelInfer`: tensors in, tensors out, without the plugin.
//!
//! Owns the order of this request: find, split, run, answer. It is the same for each message of a stream.

use std::time::{Duration, Instant};

use http::HeaderMap;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::arriving::Arriving;
use super::authorise::{caller, target};
use super::call::Call;
use super::failure;
use super::message::{self, Head, WholeMessage};
use super::protocol::ModelInferResponse;
use crate::auth::{Admitted, Caller};
use crate::error::Error;
use crate::http::front::AnswerSize;
use crate::http::recalled;
use crate::http::serving::{Marks, Serving};
use crate::http::state::AppState;
use crate::http::sticky;
use crate::http::target::Target;
use crate::http::v2::codec::Limits;
use crate::http::v2::infer::run;
use crate::http::v2::wire::{classified, off_the_reactor};
use crate::repository::Route;
use crate::telemetry::Endpoint;

pub(super) async fn unary(
    state: &AppState,
    request: Request<WholeMessage>,
) -> Result<Response<ModelInferResponse>, Status> {
    let (metadata, extensions, message) = request.into_parts();
    let call = extensions.get::<Call>().copied();
    let (started, deadline) = match call {
        Some(call) => (call.arrived, call.deadline()),
        None => (Instant::now(), None),
    };
    let caller = caller(&extensions).map_err(|error| failure::status(&error, None))?;
    let message = Arriving::of(&extensions, state).handed_over(message);
    let message = message.map_err(|error| failure::status(&error, None))?;
    let asked = Asked { message, headers: metadata.as_ref(), caller: &caller, started, deadline };
    match infer(state, asked).await {
        Ok((answer, marks)) => {
            let metadata = MetadataMap::from_headers(marks.headers().collect());
            let size = answer.raw_output_contents.iter().map(|raw| raw.len()).sum();
            let mut response = Response::from_parts(metadata, answer, tonic::Extensions::default());
            response.extensions_mut().insert(AnswerSize(size));
            response.extensions_mut().insert(marks.place);
            response.extensions_mut().insert(marks.served);
            Ok(response)
        }
        Err((error, marks)) => Err(failure::status(&error, marks.as_ref())),
    }
}

/// One request for inference.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) message: WholeMessage,
    /// The call's metadata.
    pub(super) headers: &'a HeaderMap,
    pub(super) caller: &'a Caller,
    /// When it began to come.
    pub(super) started: Instant,
    /// When its client is gone.
    pub(super) deadline: Option<Instant>,
}

/// Answers a request, or says why not, and who did.
pub(super) async fn infer(
    state: &AppState,
    asked: Asked<'_>,
) -> Result<(ModelInferResponse, Marks), (Error, Option<Marks>)> {
    let head = message::head(&asked.message).map_err(|error| (error, None))?;
    let (route, admitted) = route(state, &asked, &head).map_err(|error| (error, None))?;
    let visit = recalled::visit(state, asked.headers, asked.caller);
    let mut serving = Serving::of(state, (route, visit), admitted, Endpoint::Grpc, asked.started);
    serving.has_been_read();
    if let Some(deadline) = asked.deadline {
        serving.patience = deadline.saturating_duration_since(asked.started);
    }
    let answer = answer(state, &mut serving, &asked.message, &head).await;
    let marks = serving.close(answer.as_ref().map(|_| ()).map_err(|error| error.code));
    match answer {
        Ok(answer) => Ok((answer, marks)),
        Err(error) => Err((error, Some(marks))),
    }
}

/// The version that the message names, or as the model's traffic has it, and the caller's place there.
fn route(state: &AppState, asked: &Asked<'_>, head: &Head<'_>) -> Result<(Route, Admitted), Error> {
    let target = target(asked.caller, head.model, head.version)?;
    let route = choose(state, asked, &target)?;
    Ok((route, asked.caller.admit(&target.model)?))
}

fn choose(state: &AppState, asked: &Asked<'_>, target: &Target) -> Result<Route, Error> {
    if let Some(version) = &target.version {
        let found = state.index().find(&target.model, Some(version))?;
        return Ok(Route { found, arm: None, mirror: None });
    }
    let traffic = state.index().traffic(&target.model)?;
    if traffic.needs_body() {
        return state.index().route(&target.model, Some(&asked.message.0));
    }
    let sticky = traffic.sticky();
    state.index().route(&target.model, sticky::key(&sticky, asked.headers, asked.caller.subject()))
}

async fn answer(
    state: &AppState,
    serving: &mut Serving,
    message: &WholeMessage,
    head: &Head<'_>,
) -> Result<ModelInferResponse, Error> {
    serving.charge(message.0.len())?;
    let limits = Limits { decoded_bytes: state.max_message(), ..Limits::default() };
    let mut split = off_the_reactor(head.described, || message::split(message, &limits))?;
    let (generation, outputs) = run(state, serving, &mut split.request).await?;
    let outputs = classified(&generation, &split.request, outputs)?;
    let answer = message::answer(generation.model(), generation.version(), split.request.id, outputs);
    Ok(if split.wants_final { message::final_answer(answer) } else { answer })
}

/// Runs work that nobody but its own client bounds, for as long as the client waits.
pub(super) async fn while_waited_for<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let Some(deadline) = deadline else {
        return work.await;
    };
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    tokio::time::timeout(left, work).await.unwrap_or_else(|_| Err(super::call::too_late()))
}
