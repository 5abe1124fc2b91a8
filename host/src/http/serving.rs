//! One inference request from the first byte of its body to its answer.
//!
//! Owns what both inference routes have in common: which generation serves, by name or by traffic, reading the
//! body, the metrics, the mirror and the signature of the answer. A client that goes away drops it, which counts as
//! cancelled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::access::Served;
use super::authorise::Asker;
use super::state::AppState;
use super::target::Target;
use super::{body, sticky};
use crate::auth::{Admitted, Caller};
use crate::error::{Error, ErrorCode};
use crate::pipeline::{Asked, Generation, PredictOutput, StageTimes, mirror};
use crate::repository::Route;
use crate::telemetry::{Endpoint, InFlight};
use crate::traffic::{Arm, MirrorSlot, Outcome};

/// Names the version that answered.
const MODEL_VERSION: HeaderName = HeaderName::from_static("x-nuke-model-version");

/// Names the arm of the model's traffic that answered.
const TRAFFIC_ARM: HeaderName = HeaderName::from_static("x-nuke-traffic-arm");

/// See the module.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) generation: Arc<Generation>,
    /// Where the stages note their time.
    pub(super) times: StageTimes,
    /// Where it counts how the request went, if traffic chose.
    arm: Option<Arc<Arm>>,
    mirror: Option<(MirrorSlot, Arc<Generation>)>,
    endpoint: Endpoint,
    started: Instant,
    /// When the body was there: how long a client takes to send it is no version's doing.
    read: Instant,
    outcome: Result<(), ErrorCode>,
    /// The request itself asks for less time than the server would give.
    pub(super) hurried: bool,
    /// The caller's place among requests at a time, and what its bytes count against.
    admitted: Admitted,
    _in_flight: InFlight,
}

impl Serving {
    /// Pins the generation that answers: the one that the path names, or as the model's traffic has it.
    ///
    /// # Errors
    /// Those of the index, of the limits of caller and model, and of reading the body where that decides.
    pub(super) async fn begin(
        state: &AppState,
        target: &Target,
        endpoint: Endpoint,
        (head, body): (&Parts, &mut Body),
    ) -> Result<Self, Error> {
        let Asker(caller) = Asker::of(head)?;
        let started = Instant::now();
        let route = match &target.version {
            Some(version) => {
                let generation = state.index().find(&target.model, Some(version))?;
                Route { generation, arm: None, mirror: None }
            }
            None => route(state, target, &caller, (&head.headers, body), started).await?,
        };
        let admitted = caller.admit(&target.model)?;
        Ok(Self {
            times: StageTimes::default(),
            mirror: route.mirror,
            arm: route.arm,
            endpoint,
            started,
            read: started,
            outcome: Err(ErrorCode::Cancelled),
            hurried: false,
            admitted,
            _in_flight: route.generation.metrics().enter(),
            generation: route.generation,
        })
    }

    /// Reads the request's body.
    pub(super) async fn body(
        &mut self,
        state: &AppState,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Bytes, Error> {
        let deadline = self.deadline(state.request_timeout());
        // A body that says how long it is is counted before a byte of it is read.
        let declared = body::declared_length(headers).filter(|&length| length <= state.max_body());
        declared.map_or(Ok(()), |length| self.admitted.charge(length))?;
        let body = body::read(headers, body, state.max_body(), deadline, state.bodies()).await;
        self.read = Instant::now();
        let body = body?;
        if declared.is_none() {
            self.admitted.charge(body.len())?;
        }
        Ok(body)
    }

    /// What is to be asked the same as this request, if anything is; `asked` keeps it.
    pub(super) fn keep(&self, asked: impl FnOnce() -> Asked) -> Option<Asked> {
        self.mirror.as_ref().map(|_| asked())
    }

    /// Asks the mirror what was kept, now that the client's own answer is there.
    pub(super) fn mirror(
        &mut self,
        state: &AppState,
        kept: Option<Asked>,
        primary: Result<PredictOutput, ErrorCode>,
    ) {
        if let (Some((slot, generation)), Some(asked)) = (self.mirror.take(), kept) {
            let metrics = state.metrics().traffic().shadow(generation.model(), generation.version());
            mirror::ask(slot, generation, asked, primary, state.request_timeout(), metrics);
        }
    }

    /// When a request that may take `timeout` runs out of time.
    pub(super) fn deadline(&self, timeout: Duration) -> Instant {
        self.started + timeout
    }

    /// Counts the request, and names in the answer what served it.
    pub(super) fn finish(mut self, answer: Result<Response, Error>) -> Response {
        self.outcome = answer.as_ref().map(|_| ()).map_err(|error| error.code);
        let mut response = answer.unwrap_or_else(Error::into_response);
        if let Ok(version) = HeaderValue::from_str(self.generation.version()) {
            response.headers_mut().insert(MODEL_VERSION, version);
        }
        if let Some(arm) = self.arm.as_ref().and_then(|arm| HeaderValue::from_str(arm.name()).ok()) {
            response.headers_mut().insert(TRAFFIC_ARM, arm);
        }
        response.extensions_mut().insert(Served {
            model: self.generation.model().to_owned(),
            version: self.generation.version().to_owned(),
            times: self.times,
        });
        response
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(arm) = &self.arm {
            let outcome = match self.outcome {
                // Its own client left it no more time.
                Err(ErrorCode::DeadlineExceeded) if self.hurried => Outcome::Neither,
                outcome => judged(outcome),
            };
            arm.finished(outcome, self.read.elapsed());
        }
        self.generation.metrics().finished(self.endpoint, self.outcome, self.started.elapsed(), &self.times);
    }
}

/// Lets the model's traffic choose. Where the body decides, it is read first, and put back.
async fn route(
    state: &AppState,
    target: &Target,
    caller: &Caller,
    (headers, body): (&HeaderMap, &mut Body),
    started: Instant,
) -> Result<Route, Error> {
    let traffic = state.index().traffic(&target.model)?;
    if traffic.needs_body() {
        let deadline = started + state.request_timeout();
        let whole =
            body::read(headers, std::mem::take(body), state.max_body(), deadline, state.bodies()).await?;
        *body = Body::from(whole.clone());
        return state.index().route(&target.model, Some(&whole));
    }
    let sticky = traffic.sticky();
    state.index().route(&target.model, sticky::key(&sticky, headers, caller.subject()))
}

/// Who is to blame for an outcome.
fn judged(outcome: Result<(), ErrorCode>) -> Outcome {
    match outcome {
        Ok(()) => Outcome::Answered,
        Err(
            ErrorCode::ResourceExhausted
            | ErrorCode::DeadlineExceeded
            | ErrorCode::PluginFault
            | ErrorCode::Unavailable
            | ErrorCode::Internal,
        ) => Outcome::Failed,
        Err(
            ErrorCode::InvalidArgument
            | ErrorCode::NotFound
            | ErrorCode::PayloadTooLarge
            | ErrorCode::UnsupportedMediaType,
        ) => Outcome::Refused,
        Err(_) => Outcome::Neither,
    }
}
