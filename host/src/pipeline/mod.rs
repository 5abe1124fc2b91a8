//! One request, stage by stage: the function that a newcomer reads first.
//!
//! Owns the order of the stages, the deadline that holds for all of them, and the account of where
//! the time went. It never knows a protocol, touches a file, compiles anything or takes a lock that a
//! reload holds: everything it needs is in one immutable [`Generation`].

mod compare;
mod footprint;
mod generation;
pub mod mirror;
mod recall;
mod stages;
mod usage;

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

pub use footprint::Footprint;
pub(crate) use generation::worker_range;
pub use generation::{Generation, GenerationParts};
pub use mirror::Asked;
pub use stages::{Stage, StageTimes};
pub use usage::{InUse, Usage};

use recall::Stopped;

use crate::cache::{Computed, Value, Visit};
use crate::error::{Error, ErrorCode};
use crate::model::tensor::Tensor;
use crate::plugin::{Called, Plugin, PluginRequest, Response};
use crate::scheduler::Terms;

/// What a client sent to be predicted from.
#[derive(Clone, Debug)]
pub enum PredictInput {
    /// A body for the plugin's preprocessor.
    Body(PluginRequest),
    /// The model's inputs themselves, for a model whose plugin has no preprocessor, with the
    /// request's parameters.
    Tensors(Vec<Tensor>, Arc<[(String, String)]>),
}

/// What a client is to get.
#[derive(Clone, Debug)]
pub enum PredictOutput {
    /// What the plugin's postprocessor made.
    Body(Response),
    /// The model's outputs themselves, for a model whose plugin has no postprocessor.
    Tensors(Vec<Tensor>),
}

/// From a body to an answer: recall, or preprocess, infer, postprocess.
///
/// # Errors
/// What the plugin reports or how it failed, `InvalidArgument` if its tensors do not fit the model,
/// how the model failed, or `DeadlineExceeded`.
pub async fn predict(
    generation: &Arc<Generation>,
    input: PredictInput,
    deadline: Instant,
    visit: &mut Visit,
    times: &mut StageTimes,
) -> Result<PredictOutput, Error> {
    let _in_use = generation.usage().enter();
    let input = arranged(generation, input)?;
    let Some(question) = recall::of_predict(generation, &input, visit, deadline) else {
        recall::may_compute(generation, visit)?;
        return compute(generation, input, deadline, visit, times).await.map_err(|stopped| stopped.error);
    };
    let (part, owned) = (visit.part(), Arc::clone(generation));
    let work = move |deadline| async move {
        let (mut visit, mut times) = (part, StageTimes::default());
        let outcome = compute(&owned, input, deadline, &mut visit, &mut times).await;
        recall::computed(outcome, &visit, times)
    };
    let answered = question.answer(deadline, work).await;
    recall::settle_predict(generation, answered, visit, times)
}

/// From tensors to tensors: the model alone.
///
/// # Errors
/// `InvalidArgument` if the inputs do not fit the model, how the model failed, or `DeadlineExceeded`.
pub async fn infer<'a>(
    generation: &Arc<Generation>,
    inputs: Vec<Tensor>,
    wanted: impl ExactSizeIterator<Item = &'a str>,
    terms: impl Into<Terms>,
    visit: &mut Visit,
    times: &mut StageTimes,
) -> Result<Vec<Tensor>, Error> {
    let _in_use = generation.usage().enter();
    let inputs = generation.signature().arrange(generation.model(), inputs)?;
    let wanted = generation.signature().select_outputs(generation.model(), wanted)?;
    run(generation, inputs, wanted, terms.into(), visit, times).await
}

/// Tensors of a client's own, in the model's order.
fn arranged(generation: &Generation, input: PredictInput) -> Result<PredictInput, Error> {
    match input {
        PredictInput::Tensors(tensors, parameters) => {
            let tensors = generation.signature().arrange(generation.model(), tensors)?;
            Ok(PredictInput::Tensors(tensors, parameters))
        }
        body => Ok(body),
    }
}

/// Preprocess, infer, postprocess. Tensors of the client's own are in the model's order.
async fn compute(
    generation: &Arc<Generation>,
    input: PredictInput,
    deadline: Instant,
    visit: &mut Visit,
    times: &mut StageTimes,
) -> Result<PredictOutput, Stopped> {
    let plugin = generation.plugin();
    let (tensors, context, parameters) = match input {
        PredictInput::Tensors(tensors, parameters) => (tensors, bytes::Bytes::new(), parameters),
        PredictInput::Body(request) => {
            let plugin = plugin.ok_or_else(|| Error::internal("a body came to a model without a plugin"));
            let plugin = plugin.map_err(Stopped::at(Stage::Preprocess))?;
            let parameters = Arc::clone(&request.parameters);
            let call = plugin.preprocess(request);
            let made = settle(Stage::Preprocess, deadline, call, generation, times).await?;
            let fits = generation.signature().arrange(generation.model(), made.tensors);
            let tensors = fits.map_err(|error| misfit(plugin, &error));
            (tensors.map_err(Stopped::at(Stage::Preprocess))?, made.context, parameters)
        }
    };
    let wanted = (0..generation.signature().outputs.len()).collect();
    let outputs = run(generation, tensors, wanted, deadline.into(), visit, times).await;
    let outputs = outputs.map_err(Stopped::at(Stage::Infer))?;
    let Some(plugin) = plugin.filter(|plugin| plugin.contract().postprocessor) else {
        return Ok(PredictOutput::Tensors(outputs));
    };
    let call = plugin.postprocess(outputs, context, parameters);
    Ok(PredictOutput::Body(settle(Stage::Postprocess, deadline, call, generation, times).await?))
}

/// A model's outputs: recall, or queue and infer. Inputs are in the model's order and fit it.
async fn run(
    generation: &Arc<Generation>,
    inputs: Vec<Tensor>,
    wanted: Vec<usize>,
    terms: Terms,
    visit: &mut Visit,
    times: &mut StageTimes,
) -> Result<Vec<Tensor>, Error> {
    let Some(question) = recall::of_run(generation, &inputs, &wanted, visit, terms.deadline) else {
        recall::may_compute(generation, visit)?;
        return queue_and_infer(generation, inputs, wanted, terms, times).await;
    };
    let owned = Arc::clone(generation);
    let work = move |deadline| async move {
        let mut times = StageTimes::default();
        let terms = Terms { deadline, ..terms };
        let outcome = queue_and_infer(&owned, inputs, wanted, terms, &mut times).await;
        Computed { outcome: outcome.map(Value::Tensors), is_refusal: false, oldest_ms: None, times }
    };
    let answered = question.answer(terms.deadline, work).await;
    recall::settle_run(generation, answered, visit, times)
}

async fn queue_and_infer(
    generation: &Generation,
    inputs: Vec<Tensor>,
    wanted: Vec<usize>,
    terms: Terms,
    times: &mut StageTimes,
) -> Result<Vec<Tensor>, Error> {
    let _in_use = generation.usage().enter();
    let outcome = generation.scheduler().infer(inputs, wanted, terms).await?;
    times.set(Stage::Queue, outcome.queued);
    times.set(Stage::Infer, outcome.compute);
    Ok(outcome.outputs)
}

/// Waits for a plugin's call until the deadline, and accounts for it if it ends in time.
async fn settle<T>(
    stage: Stage,
    deadline: Instant,
    call: impl Future<Output = Called<T>>,
    generation: &Generation,
    times: &mut StageTimes,
) -> Result<T, Stopped> {
    let _in_use = generation.usage().enter();
    let started = Instant::now();
    let ended = tokio::time::timeout_at(deadline.into(), call).await;
    times.set(stage, started.elapsed());
    let Ok(called) = ended else {
        let message =
            format!("the request's time ran out in {} of model '{}'", stage.as_str(), generation.model());
        return Err(Stopped { error: Error::new(ErrorCode::DeadlineExceeded, message), stage });
    };
    times.add_plugin(called.cpu);
    generation.metrics().plugin_call(stage, called.cpu);
    called.outcome.map_err(Stopped::at(stage))
}

/// The plugin's tensors do not fit the model: the bundle is at fault, not the client.
fn misfit(plugin: &Plugin, error: &Error) -> Error {
    let message = format!("plugin '{}' and its model do not fit: {error}", plugin.name());
    Error::new(ErrorCode::PluginFault, message)
}
