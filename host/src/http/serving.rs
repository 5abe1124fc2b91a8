//! One inference request from the first byte of its body to its answer.
//!
//! Owns what all inference routes have in common, gRPC's included: which version serves, by name or by traffic,
//! reading the body, the wait for a version that is loaded on demand, the metrics, the mirror and the signature of
//! the answer. A client that goes away drops it, which counts as cancelled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::access::Served;
use super::authorise::Asker;
use super::patience::patience;
use super::state::AppState;
use super::target::Target;
use super::{body, recalled, sticky};
use crate::auth::{Admitted, Caller};
use crate::cache::{Story, Visit};
use crate::error::{Error, ErrorCode};
use crate::pipeline::{Asked, Generation, PredictOutput, Stage, StageTimes, mirror};
use crate::repository::{Found, Route};
use crate::telemetry::{Endpoint, GenerationMetrics, InFlight};
use crate::traffic::{Arm, MirrorSlot, Outcome};

/// Names the version that answered.
const MODEL_VERSION: HeaderName = HeaderName::from_static("x-nuke-model-version");

/// Names the arm of the model's traffic that answered.
const TRAFFIC_ARM: HeaderName = HeaderName::from_static("x-nuke-traffic-arm");

/// Milliseconds that the request waited until the version was loaded for it.
const LOAD_WAIT: HeaderName = HeaderName::from_static("x-nuke-load-wait-ms");

/// See the module.
#[derive(Debug)]
pub(crate) struct Serving {
    found: Found,
    /// Where a request for a version that is not in memory counts.
    cold: Option<GenerationMetrics>,
    /// Where the stages note their time.
    pub(crate) times: StageTimes,
    /// The request at the answers that are remembered.
    pub(crate) visit: Visit,
    /// Where it counts how the request went, if traffic chose.
    arm: Option<Arc<Arm>>,
    mirror: Option<(MirrorSlot, Arc<Generation>)>,
    /// The body, if it had to be read to choose.
    whole: Option<Bytes>,
    endpoint: Endpoint,
    started: Instant,
    /// When the body was there: how long a client takes to send it is no version's doing.
    read: Instant,
    outcome: Result<(), ErrorCode>,
    /// What the client's own deadline leaves: of gRPC, or of a header.
    pub(crate) patience: Duration,
    /// The request itself asks for less time than the server would give.
    pub(crate) hurried: bool,
    /// The caller's place among requests at a time, and what its bytes count against. The answer keeps it.
    admitted: Arc<Admitted>,
    /// The request was understood: how it ends from here on is the version's doing.
    is_the_versions: bool,
    _in_flight: Option<InFlight>,
}

/// What an answer, or an error, says of who made it.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    /// For the access log.
    pub(crate) served: Served,
    /// The caller's place, until the answer has been handed over.
    pub(crate) place: Arc<Admitted>,
    arm: Option<Arc<str>>,
    story: Option<Story>,
}

impl Marks {
    /// Names the version that answered, and the arm of the model's traffic, and how long a load was waited for, and
    /// whether the answer is a remembered one.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let version = HeaderValue::from_str(&self.served.version).ok().map(|value| (MODEL_VERSION, value));
        let arm = self.arm.as_deref().and_then(|arm| HeaderValue::from_str(arm).ok());
        let waited = self.served.times.get(Stage::Load).map(|waited| {
            let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            (LOAD_WAIT, HeaderValue::from(waited))
        });
        let remembered = self.story.as_ref().map(recalled::headers).into_iter().flatten();
        version.into_iter().chain(arm.map(|arm| (TRAFFIC_ARM, arm))).chain(waited).chain(remembered)
    }
}

impl Serving {
    /// Settles which version answers: the one that the path names, or as the model's traffic has it.
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
        let patience = patience(&head.headers)?;
        let (route, admitted, whole) = match &target.version {
            Some(version) => {
                let found = state.index().find(&target.model, Some(version))?;
                (Route { found, arm: None, mirror: None }, caller.admit(&target.model)?, None)
            }
            None => route(state, target, &caller, (&head.headers, body), started).await?,
        };
        let visit = recalled::visit(state, &head.headers, &caller);
        let mut serving = Self::of(state, (route, visit), admitted, endpoint, started);
        serving.patience = patience;
        serving.whole = whole;
        Ok(serving)
    }

    /// A request that has been routed, and let in.
    pub(crate) fn of(
        state: &AppState,
        (route, visit): (Route, Visit),
        admitted: Admitted,
        endpoint: Endpoint,
        started: Instant,
    ) -> Self {
        let found = route.found;
        let cold = found.loaded().is_none();
        let cold = cold.then(|| state.metrics().generation(found.model(), found.version(), None));
        let in_flight = cold.as_ref().or(found.loaded().map(|loaded| loaded.metrics()));
        Self {
            times: StageTimes::default(),
            visit,
            mirror: route.mirror,
            whole: None,
            arm: route.arm,
            endpoint,
            started,
            read: started,
            outcome: Err(ErrorCode::Cancelled),
            patience: Duration::MAX,
            hurried: false,
            admitted: Arc::new(admitted),
            is_the_versions: false,
            _in_flight: in_flight.map(GenerationMetrics::enter),
            cold,
            found,
        }
    }

    /// Counts bytes of the request against the caller's limits.
    ///
    /// # Errors
    /// `ResourceExhausted`.
    pub(crate) fn charge(&self, bytes: usize) -> Result<(), Error> {
        self.admitted.charge(bytes)
    }

    /// The whole request has been there since now.
    pub(crate) fn has_been_read(&mut self) {
        self.read = Instant::now();
    }

    /// The generation that answers, once it is in memory. To be asked for when the request is known to be in
    /// order: nothing is loaded for one that is not.
    ///
    /// # Errors
    /// Those of [`ModelIndex::awake`](crate::repository::ModelIndex::awake).
    pub(crate) async fn generation(
        &mut self,
        state: &AppState,
        deadline: Instant,
    ) -> Result<Arc<Generation>, Error> {
        if let Found::Loaded(generation) = &self.found {
            return Ok(Arc::clone(generation));
        }
        let began = Instant::now();
        let woken = state.index().awake(self.found.clone(), deadline).await;
        self.times.set(Stage::Load, began.elapsed());
        // A load is no version's answer: traffic compares those.
        self.read = Instant::now();
        let generation = woken.inspect_err(|_| self.is_the_versions = true)?;
        self.found = Found::Loaded(Arc::clone(&generation));
        Ok(generation)
    }

    /// Reads the request's body.
    pub(super) async fn body(
        &mut self,
        state: &AppState,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Bytes, Error> {
        if let Some(whole) = self.whole.take() {
            self.read = Instant::now();
            return Ok(whole);
        }
        let deadline = self.deadline(state, None);
        let body = read_body(state, &self.admitted, (headers, body), deadline).await;
        self.has_been_read();
        body
    }

    /// The request has been understood, and its version is asked now. What is to be asked the same as it, if anything
    /// is; `asked` keeps it.
    pub(crate) fn keep(&mut self, asked: impl FnOnce() -> Asked) -> Option<Asked> {
        self.is_the_versions = true;
        self.mirror.as_ref().map(|_| asked())
    }

    /// Asks the mirror what was kept, now that the client's own answer is there.
    pub(crate) fn mirror(
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

    /// When the request runs out of time: by `own`, if it says so in its body, its client's deadline, the model's
    /// `timeout`, or the server's.
    pub(crate) fn deadline(&mut self, state: &AppState, own: Option<Duration>) -> Instant {
        let asked = own.unwrap_or(Duration::MAX).min(self.patience);
        let model = self.found.loaded().and_then(|generation| generation.settings().timeout);
        let given = model.unwrap_or(Duration::MAX).min(state.request_timeout());
        self.hurried = asked < given;
        self.visit.set_until(self.started + given);
        self.started + asked.min(given)
    }

    /// Counts the request, and names in the answer what served it.
    pub(super) fn finish(self, answer: Result<Response, Error>) -> Response {
        let marks = self.close(answer.as_ref().map(|_| ()).map_err(|error| error.code));
        let mut response = answer.unwrap_or_else(Error::into_response);
        response.headers_mut().extend(marks.headers());
        response.extensions_mut().insert(marks.place);
        response.extensions_mut().insert(marks.served);
        response
    }

    /// Counts the request.
    pub(crate) fn close(mut self, outcome: Result<(), ErrorCode>) -> Marks {
        self.outcome = outcome;
        Marks {
            served: Served {
                model: self.found.model().to_owned(),
                version: self.found.version().to_owned(),
                times: self.times,
                recalled: self.visit.story().map(Story::as_str),
            },
            place: Arc::clone(&self.admitted),
            arm: self.arm.as_ref().map(|arm| Arc::clone(arm.name())),
            story: self.visit.story().copied(),
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(arm) = &self.arm {
            let outcome = match self.outcome {
                // Its own client left it no more time.
                Err(ErrorCode::DeadlineExceeded) if self.hurried => Outcome::Neither,
                // The version had no part in it.
                _ if self.visit.story().is_some_and(Story::is_hit) => Outcome::Neither,
                outcome => judged(outcome, self.is_the_versions),
            };
            arm.finished(outcome, self.read.elapsed());
        }
        let metrics = self.cold.as_ref().or(self.found.loaded().map(|loaded| loaded.metrics()));
        if let Some(metrics) = metrics {
            metrics.finished(self.endpoint, self.outcome, self.started.elapsed(), &self.times);
        }
    }
}

/// Reads a body, and counts its bytes against the caller's limits: before a byte of it is read, if it says how many.
async fn read_body(
    state: &AppState,
    admitted: &Admitted,
    (headers, body): (&HeaderMap, Body),
    deadline: Instant,
) -> Result<Bytes, Error> {
    let declared = body::declared_length(headers).filter(|&length| length <= state.max_body());
    declared.map_or(Ok(()), |length| admitted.charge(length))?;
    let body = body::read(headers, body, state.max_body(), deadline, state.bodies()).await?;
    if declared.is_none() {
        admitted.charge(body.len())?;
    }
    Ok(body)
}

/// Lets the model's traffic choose. Where the body decides, it is read first, and comes along: by then the caller has
/// its place.
async fn route(
    state: &AppState,
    target: &Target,
    caller: &Caller,
    (headers, body): (&HeaderMap, &mut Body),
    started: Instant,
) -> Result<(Route, Admitted, Option<Bytes>), Error> {
    let traffic = state.index().traffic(&target.model)?;
    let admitted = caller.admit(&target.model)?;
    if traffic.needs_body() {
        let deadline = started + state.request_timeout();
        let whole = read_body(state, &admitted, (headers, std::mem::take(body)), deadline).await?;
        let route = state.index().route(&target.model, Some(&whole))?;
        return Ok((route, admitted, Some(whole)));
    }
    let sticky = traffic.sticky();
    let route = state.index().route(&target.model, sticky::key(&sticky, headers, caller.subject()))?;
    Ok((route, admitted, None))
}

/// Who is to blame for an outcome. Before a version is asked it fails at nothing: a body that does not come, a caller
/// over its limits, a host without memory would have met any other version.
fn judged(outcome: Result<(), ErrorCode>, is_the_versions: bool) -> Outcome {
    match outcome {
        Ok(()) => Outcome::Answered,
        Err(
            ErrorCode::ResourceExhausted
            | ErrorCode::DeadlineExceeded
            | ErrorCode::PluginFault
            | ErrorCode::Unavailable
            | ErrorCode::Internal,
        ) => {
            if is_the_versions {
                Outcome::Failed
            } else {
                Outcome::Neither
            }
        }
        Err(
            ErrorCode::InvalidArgument
            | ErrorCode::NotFound
            | ErrorCode::PayloadTooLarge
            | ErrorCode::UnsupportedMediaType,
        ) => Outcome::Refused,
        Err(_) => Outcome::Neither,
    }
}
