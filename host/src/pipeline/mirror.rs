//! Requests that are answered a second time, by a version that nobody waits for.
//!
//! Owns the bounds that keep a mirror from slowing what it mirrors: a mirrored request starts when its
//! client has its answer, few run at a time, and after each the mirror rests, so that it takes no more than
//! its share of the time. What exceeds the bounds is left out and counted. The mirror's answer is compared
//! and dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::compare::{Difference, compare};
use super::{Generation, PredictInput, PredictOutput, StageTimes, infer, predict};
use crate::error::{Error, ErrorCode};
use crate::model::tensor::Tensor;
use crate::telemetry::{MirrorOutcome, ShadowMetrics};

/// A request, kept so that it can be asked again. Bytes are shared.
#[derive(Clone, Debug)]
pub enum Asked {
    /// Through the plugin.
    Predict(PredictInput),
    /// Of the model alone: inputs, and the names of the outputs that were asked for.
    Infer(Vec<Tensor>, Vec<String>),
}

/// The bounds of a mirror.
#[derive(Clone, Debug, PartialEq)]
pub struct MirrorOptions {
    /// How far two numbers may be apart and still count as the same, relative to their size above 1.
    pub tolerance: f64,
    /// Mirrored requests at a time.
    pub max_in_flight: usize,
    /// The part of the time that mirrored requests may take, above 0 and at most 1.
    pub budget: f64,
    /// How long one may take.
    pub timeout: Duration,
}

/// See the module. One for each model that mirrors.
#[derive(Debug)]
pub struct Mirror {
    options: MirrorOptions,
    metrics: ShadowMetrics,
    born: Instant,
    in_flight: AtomicUsize,
    /// When the next may start, in microseconds since `born`.
    rests_until: AtomicU64,
}

impl Mirror {
    /// One that has mirrored nothing yet.
    pub fn new(options: MirrorOptions, metrics: ShadowMetrics) -> Self {
        let (in_flight, rests_until) = Default::default();
        Self { options, metrics, born: Instant::now(), in_flight, rests_until }
    }

    /// Takes a place for one more mirrored request; `None` if the bounds are reached, which is counted.
    pub fn admit(self: &Arc<Self>) -> Option<Place> {
        let rests = micros(self.born.elapsed()) < self.rests_until.load(Relaxed);
        let taken = |count: usize| (count < self.options.max_in_flight).then_some(count + 1);
        if rests || self.in_flight.fetch_update(Relaxed, Relaxed, taken).is_err() {
            self.metrics.count(MirrorOutcome::Skipped);
            return None;
        }
        Some(Place(Arc::clone(self)))
    }

    fn rest_after(&self, took: Duration) {
        let rest = took.mul_f64((1.0 / self.options.budget - 1.0).clamp(0.0, 1e6));
        let until = micros(self.born.elapsed().saturating_add(rest));
        self.rests_until.fetch_max(until, Relaxed);
    }
}

/// The right to mirror one request.
#[derive(Debug)]
pub struct Place(Arc<Mirror>);

impl Place {
    /// Asks `generation` again, in a task of its own, what the client was answered with `primary`.
    pub fn ask(self, generation: Arc<Generation>, asked: Asked, primary: Result<PredictOutput, ErrorCode>) {
        tokio::spawn(async move {
            let mirror = &self.0;
            let (began, deadline) = (Instant::now(), Instant::now() + mirror.options.timeout);
            let mirrored = ask(&generation, asked, deadline).await;
            let took = began.elapsed();
            mirror.rest_after(took);
            mirror.metrics.took(took);
            mirror.metrics.count(judge(mirror, &generation, primary, mirrored));
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

async fn ask(generation: &Generation, asked: Asked, deadline: Instant) -> Result<PredictOutput, Error> {
    let mut times = StageTimes::default();
    match asked {
        Asked::Predict(input) => predict(generation, input, deadline, &mut times).await,
        Asked::Infer(inputs, outputs) => {
            let wanted = outputs.iter().map(String::as_str);
            infer(generation, inputs, wanted, deadline, &mut times).await.map(PredictOutput::Tensors)
        }
    }
}

fn judge(
    mirror: &Mirror,
    generation: &Generation,
    primary: Result<PredictOutput, ErrorCode>,
    mirrored: Result<PredictOutput, Error>,
) -> MirrorOutcome {
    let (primary, mirrored) = match (primary, mirrored) {
        (Ok(primary), Ok(mirrored)) => (primary, mirrored),
        (Err(left), Err(right)) if left == right.code => return MirrorOutcome::Same,
        (Err(_), _) => return MirrorOutcome::PrimaryFailed,
        (Ok(_), Err(error)) => {
            let (model, version) = (generation.model(), generation.version());
            tracing::debug!(model, version, %error, "a mirrored request failed");
            return MirrorOutcome::Failed;
        }
    };
    match compare(&primary, &mirrored) {
        Difference::Distance(distance) => {
            mirror.metrics.distance(distance);
            let same = distance <= mirror.options.tolerance;
            if same { MirrorOutcome::Same } else { MirrorOutcome::Different }
        }
        Difference::Form(reason) => {
            tracing::debug!(model = generation.model(), version = generation.version(), %reason, "a mirrored answer differs");
            MirrorOutcome::Different
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn mirror(max_in_flight: usize, budget: f64) -> Arc<Mirror> {
        let options =
            MirrorOptions { tolerance: 0.0, max_in_flight, budget, timeout: Duration::from_secs(1) };
        Arc::new(Mirror::new(options, Metrics::new("test").traffic().shadow("m", "2")))
    }

    #[test]
    fn no_more_run_at_a_time_than_are_allowed() {
        let mirror = mirror(2, 1.0);
        let (first, second) = (mirror.admit(), mirror.admit());
        assert!(first.is_some() && second.is_some() && mirror.admit().is_none());
        drop(first);
        assert!(mirror.admit().is_some());
    }

    #[test]
    fn a_mirror_rests_in_proportion_to_its_work() {
        let mirror = mirror(1, 0.01);
        mirror.rest_after(Duration::from_secs(60));
        assert!(mirror.admit().is_none());
        let rests = mirror.rests_until.load(Relaxed);
        assert!((5_900_000_000..6_100_000_000).contains(&rests), "{rests}");
    }
}
