//! One request, stage by stage: the function that a newcomer reads first.
//!
//! Owns the order of the stages, the deadline that holds for all of them, and the account of where
//! the time went. It never knows a protocol, touches a file, compiles anything or takes a lock that a
//! reload holds: everything it needs is in one immutable [`Generation`].

mod compare;
mod footprint;
mod generation;
pub mod mirror;
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

/// From a body to an answer: preprocess, infer, postprocess.
///
/// # Errors
/// What the plugin reports or how it failed, `InvalidArgument` if its tensors do not fit the model,
/// how the model failed, or `DeadlineExceeded`.
pub async fn predict(
    generation: &Generation,
    input: PredictInput,
    deadline: Instant,
    times: &mut StageTimes,
) -> Result<PredictOutput, Error> {
    let _in_use = generation.usage().enter();
    let plugin = generation.plugin();
    let (tensors, context, parameters) = match input {
        PredictInput::Tensors(tensors, parameters) => {
            let tensors = generation.signature().arrange(generation.model(), tensors)?;
            (tensors, bytes::Bytes::new(), parameters)
        }
        PredictInput::Body(request) => {
            let plugin = plugin.ok_or_else(|| Error::internal("a body came to a model without a plugin"))?;
            let parameters = Arc::clone(&request.parameters);
            let call = plugin.preprocess(request);
            let made = settle(Stage::Preprocess, deadline, call, generation, times).await?;
            let fits = generation.signature().arrange(generation.model(), made.tensors);
            let tensors = fits.map_err(|error| misfit(plugin, &error))?;
            (tensors, made.context, parameters)
        }
    };
    let wanted = (0..generation.signature().outputs.len()).collect();
    let outputs = run(generation, tensors, wanted, deadline.into(), times).await?;
    let Some(plugin) = plugin.filter(|plugin| plugin.contract().postprocessor) else {
        return Ok(PredictOutput::Tensors(outputs));
    };
    let call = plugin.postprocess(outputs, context, parameters);
    Ok(PredictOutput::Body(settle(Stage::Postprocess, deadline, call, generation, times).await?))
}

/// From tensors to tensors: the model alone.
///
/// # Errors
/// `InvalidArgument` if the inputs do not fit the model, how the model failed, or `DeadlineExceeded`.
pub async fn infer<'a>(
    generation: &Generation,
    inputs: Vec<Tensor>,
    wanted: impl ExactSizeIterator<Item = &'a str>,
    terms: impl Into<Terms>,
    times: &mut StageTimes,
) -> Result<Vec<Tensor>, Error> {
    let _in_use = generation.usage().enter();
    let inputs = generation.signature().arrange(generation.model(), inputs)?;
    let wanted = generation.signature().select_outputs(generation.model(), wanted)?;
    run(generation, inputs, wanted, terms.into(), times).await
}

async fn run(
    generation: &Generation,
    inputs: Vec<Tensor>,
    wanted: Vec<usize>,
    terms: Terms,
    times: &mut StageTimes,
) -> Result<Vec<Tensor>, Error> {
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
) -> Result<T, Error> {
    let started = Instant::now();
    let ended = tokio::time::timeout_at(deadline.into(), call).await;
    times.set(stage, started.elapsed());
    let Ok(called) = ended else {
        let message =
            format!("the request's time ran out in {} of model '{}'", stage.as_str(), generation.model());
        return Err(Error::new(ErrorCode::DeadlineExceeded, message));
    };
    times.add_plugin(called.cpu);
    generation.metrics().plugin_call(stage, called.cpu);
    called.outcome
}

/// The plugin's tensors do not fit the model: the bundle is at fault, not the client.
fn misfit(plugin: &Plugin, error: &Error) -> Error {
    let message = format!("plugin '{}' and its model do not fit: {error}", plugin.name());
    Error::new(ErrorCode::PluginFault, message)
}
