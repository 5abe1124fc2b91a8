//! The first requests of a generation, made by the host itself.
//!
//! Owns what is sent: zeros through each session, then the bundle's samples through the whole pipeline.
//! A sample that fails fails the version; zeros that the model refuses prove nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::client::media;
use crate::model::tensor::{DataType, Tensor};
use crate::model::{ModelSession, TensorSpec};
use crate::pipeline::{self, Generation, PredictInput, StageTimes};
use crate::plugin::PluginRequest;

/// How long one warm-up request may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Elements of a tensor of zeros; a model with larger fixed inputs is warmed by samples only.
const MOST_ELEMENTS: usize = 1 << 26;

/// Runs zeros through each session, before it has a worker.
pub(super) fn warm_up_sessions(sessions: &mut [ModelSession]) {
    for session in sessions {
        let signature = Arc::clone(session.signature());
        let Some(inputs) = signature.inputs.iter().map(zeros).collect::<Option<Vec<_>>>() else {
            return;
        };
        if let Err(error) = session.run(&inputs, &[]) {
            tracing::debug!(%error, "zeros do not run");
        }
    }
}

/// Makes a first instance of the plugin, and runs the samples through the whole pipeline.
pub(super) fn warm_up(generation: &Generation, samples: &[(String, Bytes)]) -> Result<(), String> {
    let handle = tokio::runtime::Handle::current();
    if let Some(plugin) = generation.plugin() {
        handle.block_on(plugin.probe()).map_err(|error| format!("plugin '{}': {error}", plugin.name()))?;
    }
    let has_preprocessor = generation.plugin().is_some_and(|plugin| plugin.contract().preprocessor);
    if !samples.is_empty() && !has_preprocessor {
        return Err("bundle.yaml has warm-up samples, but no plugin that could read them".to_owned());
    }
    for (name, sample) in samples {
        let content_type = media::guess(Some(Path::new(name)), sample).to_owned();
        let request = PluginRequest { body: sample.clone(), parameters: Arc::new([]), content_type };
        let mut times = StageTimes::default();
        let deadline = Instant::now() + PATIENCE;
        let outcome =
            handle.block_on(pipeline::predict(generation, PredictInput::Body(request), deadline, &mut times));
        outcome.map_err(|error| format!("warm-up with {name} failed: {error}"))?;
    }
    Ok(())
}

/// Zeros (or empty texts) of a spec's shape, with 1 for each dimension that is open.
fn zeros(spec: &TensorSpec) -> Option<Tensor> {
    let dimension = |&dimension: &i64| if dimension < 0 { Some(1) } else { usize::try_from(dimension).ok() };
    let shape: Vec<usize> = spec.shape.iter().map(dimension).collect::<Option<_>>()?;
    let elements = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))?;
    if elements > MOST_ELEMENTS {
        return None;
    }
    let width = spec.datatype.width().unwrap_or(size_of::<u32>());
    debug_assert!(spec.datatype.width().is_some() || spec.datatype == DataType::Bytes);
    Tensor::new(spec.name.clone(), spec.datatype, shape, vec![0; elements * width]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_dimensions_become_one() {
        let spec =
            |datatype, shape: &[i64]| TensorSpec { name: "x".to_owned(), datatype, shape: shape.to_vec() };
        let tensor = zeros(&spec(DataType::Fp32, &[-1, 3])).unwrap();
        assert_eq!((tensor.shape.as_slice(), tensor.data.len()), ([1, 3].as_slice(), 12));
        assert_eq!(zeros(&spec(DataType::Bytes, &[2])).unwrap().data.len(), 8);
        assert_eq!(zeros(&spec(DataType::Fp32, &[1 << 40])), None);
    }
}
