//! Requests that are answered a second time, by a version that nobody waits for.
//!
//! Owns the asking, the comparison of the two answers and what is counted of it: a mirrored request starts when
//! its client's own answer is there, and the mirror's answer is compared and dropped. How many there are is the
//! traffic's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::compare::{Difference, compare};
use super::{Generation, PredictInput, PredictOutput, StageTimes, infer, predict};
use crate::cache::Visit;
use crate::error::{Error, ErrorCode};
use crate::model::tensor::Tensor;
use crate::telemetry::{MirrorOutcome, ShadowMetrics};
use crate::traffic::MirrorSlot;

/// A request, kept so that it can be asked again. Bytes are shared.
#[derive(Clone, Debug)]
pub enum Asked {
    /// Through the plugin.
    Predict(PredictInput),
    /// Of the model alone: inputs, and the names of the outputs that were asked for.
    Infer(Vec<Tensor>, Vec<String>),
}

/// Asks `generation` again, in a task of its own, what the client was answered with `primary`. The slot is
/// given back when that is done.
pub fn ask(
    slot: MirrorSlot,
    generation: Arc<Generation>,
    asked: Asked,
    primary: Result<PredictOutput, ErrorCode>,
    timeout: Duration,
    metrics: ShadowMetrics,
) {
    tokio::spawn(async move {
        let began = Instant::now();
        let mirrored = answer(&generation, asked, began + timeout).await;
        let took = began.elapsed();
        metrics.took(took);
        let outcome = judge(&slot, &generation, primary, mirrored, &metrics);
        metrics.count(outcome);
        slot.done(outcome == MirrorOutcome::Same, took);
    });
}

async fn answer(
    generation: &Arc<Generation>,
    asked: Asked,
    deadline: Instant,
) -> Result<PredictOutput, Error> {
    // Its work is what is looked at: it neither gets a remembered answer nor leaves one.
    let (mut times, mut visit) = (StageTimes::default(), Visit::none());
    match asked {
        Asked::Predict(input) => predict(generation, input, deadline, &mut visit, &mut times).await,
        Asked::Infer(inputs, outputs) => {
            let wanted = outputs.iter().map(String::as_str);
            infer(generation, inputs, wanted, deadline, &mut visit, &mut times)
                .await
                .map(PredictOutput::Tensors)
        }
    }
}

fn judge(
    slot: &MirrorSlot,
    generation: &Generation,
    primary: Result<PredictOutput, ErrorCode>,
    mirrored: Result<PredictOutput, Error>,
    metrics: &ShadowMetrics,
) -> MirrorOutcome {
    let (model, version) = (generation.model(), generation.version());
    let (primary, mirrored) = match (primary, mirrored) {
        (Ok(primary), Ok(mirrored)) => (primary, mirrored),
        (Err(left), Err(right)) if left == right.code => return MirrorOutcome::Same,
        (Err(_), _) => return MirrorOutcome::PrimaryFailed,
        (Ok(_), Err(error)) => {
            tracing::debug!(model, version, %error, "a mirrored request failed");
            return MirrorOutcome::Failed;
        }
    };
    match compare(&primary, &mirrored) {
        Difference::Distance(distance) => {
            metrics.distance(distance);
            slot.distance(distance);
            if distance <= slot.tolerance() { MirrorOutcome::Same } else { MirrorOutcome::Different }
        }
        Difference::Form(reason) => {
            tracing::debug!(model, version, %reason, "a mirrored answer differs");
            MirrorOutcome::Different
        }
    }
}
