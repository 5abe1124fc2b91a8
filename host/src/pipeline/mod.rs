//! One request, stage by stage: the function that a newcomer reads first.
//!
//! Owns the order of the stages, the deadline that holds for all of them, and the account of where
//! the time went. It never knows a protocol, touches a file, compiles anything or takes a lock that a
//! reload holds: everything it needs is in one immutable [`Generation`].

mod generation;
mod stages;

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

pub use generation::{Generation, GenerationParts};
pub use stages::{Stage, StageTimes};

use crate::error::{Error, ErrorCode};
use crate::model::tensor::Tensor;
use crate::plugin::{Plugin, PluginRequest, Response};

/// What a client sent to be predicted from.
#[derive(Debug)]
pub enum PredictInput {
    /// A body for the plugin's preprocessor.
    Body(PluginRequest),
    /// The model's inputs themselves, for a model whose plugin has no preprocessor, with the
    /// request's parameters.
    Tensors(Vec<Tensor>, Arc<[(String, String)]>),
}

/// What a client is to get.
#[derive(Debug)]
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
    let plugin = generation.plugin();
    let (tensors, context, parameters) = match input {
        PredictInput::Tensors(tensors, parameters) => (tensors, bytes::Bytes::new(), parameters),
        PredictInput::Body(request) => {
            let plugin = plugin.ok_or_else(|| Error::internal("a body came to a model without a plugin"))?;
            let parameters = Arc::clone(&request.parameters);
            let call = within(deadline, generation, "preprocess", plugin.preprocess(request));
            let (made, report) = times.measure(Stage::Preprocess, call).await?;
            times.add_plugin(&report);
            generation.metrics().plugin_call(Stage::Preprocess, &report);
            let fits = generation.signature().arrange(generation.model(), made.tensors);
            let tensors = fits.map_err(|error| misfit(plugin, &error))?;
            (tensors, made.context, parameters)
        }
    };
    let wanted = (0..generation.signature().outputs.len()).collect();
    let outputs = run(generation, tensors, wanted, deadline, times).await?;
    let Some(plugin) = plugin.filter(|plugin| plugin.contract().postprocessor) else {
        return Ok(PredictOutput::Tensors(outputs));
    };
    let call = within(deadline, generation, "postprocess", plugin.postprocess(outputs, context, parameters));
    let (response, report) = times.measure(Stage::Postprocess, call).await?;
    times.add_plugin(&report);
    generation.metrics().plugin_call(Stage::Postprocess, &report);
    Ok(PredictOutput::Body(response))
}

/// From tensors to tensors: the model alone.
///
/// # Errors
/// `InvalidArgument` if the inputs do not fit the model, how the model failed, or `DeadlineExceeded`.
pub async fn infer<'a>(
    generation: &Generation,
    inputs: Vec<Tensor>,
    wanted: impl ExactSizeIterator<Item = &'a str>,
    deadline: Instant,
    times: &mut StageTimes,
) -> Result<Vec<Tensor>, Error> {
    let inputs = generation.signature().arrange(generation.model(), inputs)?;
    let wanted = generation.signature().select_outputs(generation.model(), wanted)?;
    run(generation, inputs, wanted, deadline, times).await
}

async fn run(
    generation: &Generation,
    inputs: Vec<Tensor>,
    wanted: Vec<usize>,
    deadline: Instant,
    times: &mut StageTimes,
) -> Result<Vec<Tensor>, Error> {
    let outcome = generation.scheduler().infer(inputs, wanted, deadline).await?;
    times.set(Stage::Queue, outcome.queued);
    times.set(Stage::Infer, outcome.compute);
    Ok(outcome.outputs)
}

async fn within<T>(
    deadline: Instant,
    generation: &Generation,
    stage: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout_at(deadline.into(), work).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let model = generation.model();
            let message = format!("the request's time ran out in {stage} of model '{model}'");
            Err(Error::new(ErrorCode::DeadlineExceeded, message))
        }
    }
}

/// The plugin's tensors do not fit the model: the bundle is at fault, not the client.
fn misfit(plugin: &Plugin, error: &Error) -> Error {
    let message = format!("plugin '{}' and its model do not fit: {error}", plugin.name());
    Error::new(ErrorCode::PluginFault, message)
}
