//! `ModelStreamInfer`: a request after another on one call, answered in their order.
//!
//! Owns how many of them are worked on at once, how one that fails is told, and when a stream ends although its
//! client would go on: at its deadline, when the server stops, and when who asks is not believed any more. Each message
//! is a request: it is asked anew who it is from, and it counts.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{self, Stream, StreamExt as _};
use http::HeaderMap;
use tonic::{Request, Status, Streaming};

use super::arriving::Arriving;
use super::call::{Call, too_late};
use super::failure;
use super::infer::{Asked, infer};
use super::message::{WholeMessage, head};
use super::protocol::{ModelInferResponse, ModelStreamInferResponse};
use crate::auth::{Origin, Refusal};
use crate::error::{Error, ErrorCode};
use crate::http::Lasting;
use crate::http::authorise::origin;
use crate::http::state::AppState;

/// Requests of one stream that are worked on at once; more are not read until one is answered.
const AT_ONCE: usize = 4;
/// Asks that a request that fails ends the stream with its status.
const ENDS_WITH_STATUS: &str = "triton_grpc_error";

/// The answers of one stream.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

/// Whoever drops the answers ends everything that is still worked on.
pub(super) fn answers(state: &AppState, request: Request<Streaming<WholeMessage>>) -> Answers {
    let (metadata, extensions, messages) = request.into_parts();
    let deadline = extensions.get::<Call>().and_then(Call::deadline);
    let arriving = Arriving::of(&extensions, state);
    let messages = messages.map(move |message| match message {
        Ok(message) => arriving.handed_over(message).map_err(|error| failure::status(&error, None)),
        Err(status) => Err(status),
    });
    let one = One {
        state: state.clone(),
        headers: Arc::new(metadata.into_headers()),
        peer: origin(extensions.get::<Origin>()),
        call: extensions.get::<Lasting>().cloned().unwrap_or_default(),
        deadline,
        limit: state.max_message(),
    };
    let (stopping, state) = (state.lifecycle().stopping(), state.clone());
    let stopped = move || {
        let is_stopping = state.lifecycle().is_stopping();
        is_stopping.then(|| Error::new(ErrorCode::Unavailable, "the server is stopping; ask another one"))
    };
    let told = ended(stopped).map(|error| Err(failure::status(&error, None)));
    let messages = messages.take_until(stopping).chain(told);
    let answers = messages.enumerate().map(move |(number, message)| {
        let work = one.call.work();
        let answer = one.clone().answer(number, message);
        async move {
            let answered = answer.await;
            drop(work);
            answered
        }
    });
    let answers = answers.buffered(AT_ONCE);
    let Some(deadline) = deadline else {
        return Box::pin(answers);
    };
    let late = move || (Instant::now() >= deadline).then(too_late);
    let told = ended(late).map(|error| Err(failure::status(&error, None)));
    Box::pin(answers.take_until(tokio::time::sleep_until(deadline.into())).chain(told))
}

/// Why a stream has ended, once it has.
fn ended(reason: impl FnOnce() -> Option<Error>) -> impl Stream<Item = Error> {
    stream::once(async move { stream::iter(reason()) }).flatten()
}

/// What all requests of a stream have in common.
#[derive(Clone, Debug)]
struct One {
    state: AppState,
    headers: Arc<HeaderMap>,
    peer: Origin,
    call: Lasting,
    deadline: Option<Instant>,
    limit: usize,
}

impl One {
    /// The answer to one request; an error ends the stream.
    async fn answer(
        self,
        number: usize,
        message: Result<WholeMessage, Status>,
    ) -> Result<ModelStreamInferResponse, Status> {
        let message =
            message.map_err(|status| failure::status(&failure::translate(&status, self.limit), None))?;
        let started = Instant::now();
        let gate = self.state.gate();
        let refused = |refusal: Refusal| refusal.error;
        let caller = gate.again(&self.headers, &self.peer).await.map_err(refused);
        let mut caller = caller.map_err(|error| failure::status(&error, None))?;
        let id = head(&message).map(|head| head.id.to_owned()).unwrap_or_default();
        // The head of the call has been counted, and is the first message's.
        let counted = if number == 0 { Ok(()) } else { caller.count().map_err(refused) };
        let asked =
            Asked { message, headers: &self.headers, caller: &caller, started, deadline: self.deadline };
        let answered = match counted {
            Ok(()) => infer(&self.state, asked).await,
            Err(error) => Err((error, None)),
        };
        let (error, marks) = match answered {
            Ok((answer, _)) => {
                return Ok(ModelStreamInferResponse { infer_response: Some(answer), ..Default::default() });
            }
            Err(failed) => failed,
        };
        if self.headers.get(ENDS_WITH_STATUS).is_some_and(|value| value == "true") {
            return Err(failure::status(&error, marks.as_ref()));
        }
        let answer = ModelInferResponse { id, ..ModelInferResponse::default() };
        Ok(ModelStreamInferResponse {
            error_message: error.message.into_owned(),
            infer_response: Some(answer),
        })
    }
}
