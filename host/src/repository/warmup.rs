//! The first requests of a generation, made by the host itself.
//!
//! Owns what is sent: zeros and the bundle's tensors through each session, in each batch size that will be
//! used, then the bundle's samples through the whole pipeline. A sample that fails fails the version; zeros
//! that the model refuses prove nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::cache::Visit;
use crate::client::media;
use crate::http::v2::codec;
use crate::isolation::Executor;
use crate::model::tensor::{DataType, Tensor};
use crate::model::{Signature, TensorSpec};
use crate::pipeline::{self, Generation, PredictInput, StageTimes};
use crate::plugin::{Plugin, PluginRequest};

/// How long one warm-up request may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Elements of a tensor of zeros; a model with larger fixed inputs is warmed by samples only.
const MOST_ELEMENTS: usize = 1 << 26;

/// A sample of a bundle.
#[derive(Debug)]
pub(super) struct Sample {
    name: String,
    input: SampleInput,
}

#[derive(Debug)]
enum SampleInput {
    /// For the plugin's preprocessor.
    Body(Bytes),
    /// The model's inputs, in its order.
    Tensors(Vec<Tensor>),
}

/// What samples mean: bodies for a preprocessor, and inference requests of the protocol where there is none.
pub(super) fn read_samples(
    files: &[(String, Bytes)],
    plugin: Option<&Plugin>,
    signature: &Signature,
    model: &str,
) -> Result<Vec<Sample>, String> {
    let has_preprocessor = plugin.is_some_and(|plugin| plugin.contract().preprocessor);
    let read = |(name, bytes): &(String, Bytes)| {
        if has_preprocessor {
            return Ok(Sample { name: name.clone(), input: SampleInput::Body(bytes.clone()) });
        }
        let tensors = read_tensors(bytes, signature, model).map_err(|error| {
            format!(
                "warm-up sample {name}: no plugin reads it, so it has to be an inference request of the v2 \
                 protocol as JSON: {error}"
            )
        })?;
        Ok(Sample { name: name.clone(), input: SampleInput::Tensors(tensors) })
    };
    files.iter().map(read).collect()
}

fn read_tensors(bytes: &Bytes, signature: &Signature, model: &str) -> Result<Vec<Tensor>, String> {
    let parsed = codec::parse(bytes, None, &codec::Limits::default()).map_err(|error| error.to_string())?;
    let codec::Body::Request(request) = parsed else {
        return Err("it is none".to_owned());
    };
    signature.arrange(model, request.inputs).map_err(|error| error.to_string())
}

/// Runs each session, before it has a worker, with zeros and with the samples that are tensors, in each of
/// these batch sizes that the model takes.
pub(super) fn warm_up_sessions(
    sessions: &mut [Executor],
    batch_sizes: &[usize],
    samples: &[Sample],
) -> Result<(), String> {
    for session in sessions {
        let signature = Arc::clone(session.signature());
        let outputs: Vec<usize> = (0..signature.outputs.len()).collect();
        for &batch in if is_batched(&signature) { batch_sizes } else { &[1] } {
            let zeros: Option<Vec<_>> = signature.inputs.iter().map(|spec| zeros(spec, batch)).collect();
            if let Some(Err(error)) = zeros.map(|zeros| session.run(&zeros, &[])) {
                tracing::debug!(%error, batch, "zeros do not run");
            }
            for sample in samples {
                let SampleInput::Tensors(tensors) = &sample.input else {
                    continue;
                };
                let tensors = if is_batched(&signature) { tiled(tensors, batch) } else { tensors.clone() };
                session.run(&tensors, &outputs).map_err(|error| {
                    format!("warm-up with {} in batches of {batch} failed: {error}", sample.name)
                })?;
            }
        }
    }
    Ok(())
}

/// Makes a first instance of the plugin, and runs the samples through the whole pipeline.
pub(super) fn warm_up(generation: &Arc<Generation>, samples: &[Sample]) -> Result<(), String> {
    let handle = tokio::runtime::Handle::current();
    if let Some(plugin) = generation.plugin() {
        handle.block_on(plugin.probe()).map_err(|error| format!("plugin '{}': {error}", plugin.name()))?;
    }
    for Sample { name, input } in samples {
        let input = match input {
            SampleInput::Body(body) => PredictInput::Body(PluginRequest {
                body: body.clone(),
                parameters: Arc::new([]),
                content_type: media::guess(Some(Path::new(name)), body).to_owned(),
            }),
            SampleInput::Tensors(tensors) => PredictInput::Tensors(tensors.clone(), Arc::new([])),
        };
        let (mut times, deadline) = (StageTimes::default(), Instant::now() + PATIENCE);
        let mut visit = Visit::none();
        let outcome = handle.block_on(pipeline::predict(generation, input, deadline, &mut visit, &mut times));
        outcome.map_err(|error| format!("warm-up with {name} failed: {error}"))?;
    }
    Ok(())
}

/// Whether requests choose the first dimension of every input.
fn is_batched(signature: &Signature) -> bool {
    let open = |spec: &TensorSpec| spec.shape.first().is_some_and(|&first| first < 0);
    !signature.inputs.is_empty() && signature.inputs.iter().all(open)
}

/// The same tensors with so many rows: repeated as often as it takes, then cut. Texts are repeated whole
/// times only, and tensors without rows stay as they are.
fn tiled(tensors: &[Tensor], batch: usize) -> Vec<Tensor> {
    let tile = |tensor: &Tensor| {
        let rows = tensor.shape.first().copied().filter(|&rows| rows > 0)?;
        let size = tensor.data.len() / rows;
        let whole = tensor.datatype.width().is_some() || batch.is_multiple_of(rows);
        let bytes = size.checked_mul(batch).filter(|_| whole)?;
        let data: Vec<u8> = if tensor.datatype.width().is_some() {
            tensor.data.iter().copied().cycle().take(bytes).collect()
        } else {
            tensor.data.repeat(batch / rows)
        };
        let mut shape = tensor.shape.clone();
        *shape.first_mut()? = batch;
        Tensor::new(tensor.name.clone(), tensor.datatype, shape, data).ok()
    };
    tensors.iter().map(tile).collect::<Option<_>>().unwrap_or_else(|| tensors.to_vec())
}

/// Zeros for all inputs of a model, one row of each; `None` if they would be very large.
pub(super) fn zero_inputs(signature: &Signature) -> Option<Vec<Tensor>> {
    signature.inputs.iter().map(|spec| zeros(spec, 1)).collect()
}

/// Zeros (or empty texts) of a spec's shape, with `batch` for a first dimension that is open, and 1 for each
/// other one.
fn zeros(spec: &TensorSpec, batch: usize) -> Option<Tensor> {
    let dimension = |(place, &dimension): (usize, &i64)| match (place, dimension < 0) {
        (0, true) => Some(batch),
        (_, true) => Some(1),
        (_, false) => usize::try_from(dimension).ok(),
    };
    let shape: Vec<usize> = spec.shape.iter().enumerate().map(dimension).collect::<Option<_>>()?;
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

    fn spec(datatype: DataType, shape: &[i64]) -> TensorSpec {
        TensorSpec { name: "x".to_owned(), datatype, shape: shape.to_vec() }
    }

    #[test]
    fn open_dimensions_become_one_and_the_first_one_the_batch() {
        let tensor = zeros(&spec(DataType::Fp32, &[-1, 3, -1]), 4).unwrap();
        assert_eq!((tensor.shape.as_slice(), tensor.data.len()), ([4, 3, 1].as_slice(), 48));
        assert_eq!(zeros(&spec(DataType::Bytes, &[2]), 1).unwrap().data.len(), 8);
        assert_eq!(zeros(&spec(DataType::Fp32, &[1 << 40]), 1), None);
        assert_eq!(zeros(&spec(DataType::Fp32, &[-1, 1 << 20]), 1 << 10), None);
    }

    #[test]
    fn samples_are_repeated_and_cut_to_a_batch() {
        let rows = |shape: Vec<usize>, data: Vec<u8>| Tensor::new("x", DataType::Uint8, shape, data).unwrap();
        let sample = [rows(vec![2, 2], vec![1, 2, 3, 4])];
        assert_eq!(tiled(&sample, 3), [rows(vec![3, 2], vec![1, 2, 3, 4, 1, 2])]);
        assert_eq!(tiled(&sample, 1), [rows(vec![1, 2], vec![1, 2])]);
        let text = Tensor::new("x", DataType::Bytes, vec![1], vec![1, 0, 0, 0, b'a']).unwrap();
        assert_eq!(tiled(std::slice::from_ref(&text), 2)[0].data.len(), 10);
        let empty = [rows(vec![0, 2], vec![])];
        assert_eq!(tiled(&empty, 4), empty);
    }

    #[test]
    fn without_a_preprocessor_a_sample_is_an_inference_request() {
        let signature = Signature { inputs: vec![spec(DataType::Fp32, &[-1, 2])], outputs: vec![] };
        let read = |text: &'static str| {
            read_samples(
                &[("samples/x.json".to_owned(), Bytes::from_static(text.as_bytes()))],
                None,
                &signature,
                "m",
            )
        };
        let good = r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}"#;
        assert!(matches!(&read(good).unwrap()[0].input, SampleInput::Tensors(tensors) if tensors.len() == 1));
        let wrong = [
            "",
            "[]",
            "{\"inputs\": [",
            r#"{"inputs": []}"#,
            r#"{"inputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}"#,
            r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}"#,
            r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [99999999, 2], "data": [1, 2]}]}"#,
        ];
        for text in wrong {
            let reason = read(text).unwrap_err();
            assert!(reason.starts_with("warm-up sample samples/x.json: no plugin reads it"), "{reason}");
        }
    }
}
