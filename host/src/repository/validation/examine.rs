//! What a child does with a version: what the host would do, and a run of it.
//!
//! Owns the order of the checks, and that each is announced before it begins. It never knows that it runs in
//! a child.

use crate::child::lacks_memory;
use crate::config::ModelConfig;
use crate::isolation::Executor;
use crate::model::tensor::Tensor;
use crate::repository::content::Content;
use crate::repository::load::Loader;
use crate::repository::warmup;

/// Opens a version and runs it: the model on zeros, and the samples through all of it. Returns what an
/// operator should hear of a good version.
///
/// # Errors
/// Why the version is no good.
pub(super) fn examine(
    loader: &Loader,
    content: &Content,
    settings: ModelConfig,
    stage: impl Fn(&str),
) -> Result<Vec<String>, String> {
    stage("it opened the model and the plugin");
    let opening = loader.opening(content, &settings, settings.workers.session.device)?;
    let (mut sessions, plugin) = loader.open(content, &opening, 1)?;
    stage("it ran the model on zeros");
    let mut warnings = Vec::new();
    for session in &mut sessions {
        warnings.extend(run_once(session).map_err(|reason| format!("{}: {reason}", content.model_path))?);
    }
    stage("it warmed up, with the plugin and the samples");
    let generation = loader.start(content, (sessions, opening), plugin, settings)?;
    generation.free();
    Ok(warnings)
}

/// Runs a model on zeros, if it can be, and holds what comes against what it declares. That it refuses
/// zeros proves nothing; that it does not fit into memory does.
fn run_once(session: &mut Executor) -> Result<Vec<String>, String> {
    let signature = std::sync::Arc::clone(session.signature());
    let Some(inputs) = warmup::zero_inputs(&signature) else {
        return Ok(Vec::new());
    };
    let all: Vec<usize> = (0..signature.outputs.len()).collect();
    let outputs: Vec<Tensor> = match session.run(&inputs, &all) {
        Ok(outputs) => outputs,
        Err(error) if lacks_memory(&error.message) => return Err(error.to_string()),
        Err(_) => return Ok(Vec::new()),
    };
    let mut warnings = Vec::new();
    for (spec, tensor) in signature.outputs.iter().zip(&outputs) {
        if tensor.datatype != spec.datatype {
            return Err(format!(
                "output '{}' is declared as {} and comes as {}; save the model with the type that it gives",
                spec.name, spec.datatype, tensor.datatype
            ));
        }
        if !spec.admits(&tensor.shape) {
            warnings.push(format!(
                "output '{}' is declared with shape {:?} and comes with {:?}",
                spec.name, spec.shape, tensor.shape
            ));
        }
    }
    Ok(warnings)
}
