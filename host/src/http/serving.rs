//! One inference request from the first byte of its body to its answer.
//!
//! Owns what both inference routes have in common: which generation serves, reading the body, the
//! metrics and the signature of the answer. A client that goes away drops it, which counts as
//! cancelled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::access::Served;
use super::body;
use super::state::AppState;
use super::target::Target;
use crate::error::{Error, ErrorCode};
use crate::pipeline::{Generation, StageTimes};
use crate::telemetry::{Endpoint, InFlight};

/// Names the version that answered.
const MODEL_VERSION: HeaderName = HeaderName::from_static("x-nuke-model-version");

/// See the module.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) generation: Arc<Generation>,
    /// Where the stages note their time.
    pub(super) times: StageTimes,
    endpoint: Endpoint,
    started: Instant,
    outcome: Result<(), ErrorCode>,
    _in_flight: InFlight,
}

impl Serving {
    /// Pins the generation that answers.
    pub(super) fn begin(state: &AppState, target: &Target, endpoint: Endpoint) -> Result<Self, Error> {
        let generation = state.index().find(&target.model, target.version.as_deref())?;
        Ok(Self {
            times: StageTimes::default(),
            endpoint,
            started: Instant::now(),
            outcome: Err(ErrorCode::Cancelled),
            _in_flight: generation.metrics().enter(),
            generation,
        })
    }

    /// Reads the request's body.
    pub(super) async fn body(
        &self,
        state: &AppState,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Bytes, Error> {
        body::read(headers, body, state.max_body(), self.deadline(state.request_timeout())).await
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
        self.generation.metrics().finished(self.endpoint, self.outcome, self.started.elapsed(), &self.times);
    }
}
