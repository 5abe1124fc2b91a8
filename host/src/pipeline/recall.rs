//! Between the pipeline and the answers that are remembered.
//!
//! Owns what a request's question is, which failures depend on the request alone, and what of an answer counts where.

use std::time::Instant;

use super::{Generation, PredictInput, PredictOutput, Stage, StageTimes};
use crate::cache::{Answered, Computed, Question, Story, Subject, Value, Visit};
use crate::error::{Error, ErrorCode};
use crate::model::tensor::Tensor;

/// A failure, and in which stage it came.
pub(super) struct Stopped {
    pub(super) error: Error,
    pub(super) stage: Stage,
}

impl Stopped {
    pub(super) fn at(stage: Stage) -> impl FnOnce(Error) -> Self {
        move |error| Self { error, stage }
    }

    /// Whether a plugin refused the request in order, for what the request is: it would do so again. Limits of queue
    /// and batches refuse as well, but as the settings are at the moment.
    fn is_refusal(&self) -> bool {
        let by_plugin = matches!(self.stage, Stage::Preprocess | Stage::Postprocess);
        by_plugin
            && matches!(
                self.error.code,
                ErrorCode::InvalidArgument
                    | ErrorCode::NotFound
                    | ErrorCode::PayloadTooLarge
                    | ErrorCode::UnsupportedMediaType
            )
    }
}

/// The question for the answer to a whole request, if the model's answers are remembered.
pub(super) fn of_predict(
    generation: &Generation,
    input: &PredictInput,
    visit: &Visit,
    deadline: Instant,
) -> Option<Question> {
    let subject = match input {
        PredictInput::Body(request) => Subject::Body {
            content_type: &request.content_type,
            body: &request.body,
            parameters: &request.parameters,
        },
        // What the plugin has no part in is asked as a run.
        PredictInput::Tensors(..) if !has_postprocessor(generation) => return None,
        PredictInput::Tensors(inputs, parameters) => Subject::Tensors { inputs, parameters },
    };
    ask(generation, subject, visit, deadline)
}

fn has_postprocessor(generation: &Generation) -> bool {
    generation.plugin().is_some_and(|plugin| plugin.contract().postprocessor)
}

/// The question for a model's outputs, if they are remembered.
pub(super) fn of_run(
    generation: &Generation,
    inputs: &[Tensor],
    wanted: &[usize],
    visit: &Visit,
    deadline: Instant,
) -> Option<Question> {
    ask(generation, Subject::Run { inputs, wanted }, visit, deadline)
}

fn ask(generation: &Generation, subject: Subject<'_>, visit: &Visit, deadline: Instant) -> Option<Question> {
    visit.question(generation.model(), generation.settings().cache, generation.seed(), subject, deadline)
}

/// Whether an answer may be computed for a request where none is remembered for want of a cache: not for one that takes
/// nothing but a remembered answer.
///
/// # Errors
/// `NotCached`.
pub(super) fn may_compute(generation: &Generation, visit: &mut Visit) -> Result<(), Error> {
    if !visit.only_if_cached() || generation.settings().cache.ttl.is_some() {
        return Ok(());
    }
    visit.tell_absent();
    let model = generation.model();
    let message = format!("no answers of model '{model}' are remembered (cache-control: only-if-cached)");
    Err(Error::new(ErrorCode::NotCached, message))
}

/// What a computation of the whole pipeline gave.
pub(super) fn computed(
    outcome: Result<PredictOutput, Stopped>,
    visit: &Visit,
    times: StageTimes,
) -> Computed {
    let is_refusal = outcome.as_ref().is_err_and(Stopped::is_refusal);
    let outcome = match outcome {
        Ok(PredictOutput::Body(response)) => Ok(Value::Response(response)),
        Ok(PredictOutput::Tensors(tensors)) => Ok(Value::Tensors(tensors)),
        Err(stopped) => Err(stopped.error),
    };
    Computed { outcome, is_refusal, oldest_ms: visit.oldest_ms(), times }
}

/// The answer to a whole request, accounted for. A request counts once in the protocol's statistics: where the answer
/// was computed, its run has been counted already.
pub(super) fn settle_predict(
    generation: &Generation,
    answered: Answered,
    visit: &mut Visit,
    times: &mut StageTimes,
) -> Result<PredictOutput, Error> {
    note(&answered, visit, times);
    if answered.outcome.is_ok() && answered.story.is_hit() {
        generation.scheduler().counter().recalled(answered.recall);
    }
    match answered.outcome? {
        Value::Response(response) => Ok(PredictOutput::Body(response)),
        Value::Tensors(tensors) => Ok(PredictOutput::Tensors(tensors)),
        Value::Refusal(error) => Err(error),
    }
}

/// A model's outputs, accounted for.
pub(super) fn settle_run(
    generation: &Generation,
    answered: Answered,
    visit: &mut Visit,
    times: &mut StageTimes,
) -> Result<Vec<Tensor>, Error> {
    note(&answered, visit, times);
    let counter = generation.scheduler().counter();
    match (&answered.outcome, &answered.story) {
        (Ok(_), story) if story.is_hit() => counter.recalled(answered.recall),
        (Ok(_), Story::Computed { why, .. }) if !why.is_bypass() => counter.missed(answered.recall),
        (Err(_), story) if story.is_hit() => counter.failed(answered.recall),
        _ => {}
    }
    match answered.outcome? {
        Value::Tensors(tensors) => Ok(tensors),
        _ => Err(Error::internal("the remembered answer of a model is none")),
    }
}

fn note(answered: &Answered, visit: &mut Visit, times: &mut StageTimes) {
    times.add(Stage::Recall, answered.recall);
    times.add_all(&answered.times);
    visit.tell(answered);
}
