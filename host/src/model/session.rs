//! One ONNX Runtime session: a model that can run one request, or one batch of them, at a time.
//!
//! Owns opening a model from bytes that were read once, and running it. It never reads a file.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ort::ep;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{Outlet, ValueType};

use super::batch::GatherBuffer;
use super::external;
use super::runtime::Runtime;
use super::signature::{Signature, TensorSpec};
use super::stop::RunStop;
use super::{values, weights};
use crate::error::{Error, ErrorCode};
use crate::model::tensor::Tensor;

/// Why a model cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// It was written for another ONNX Runtime.
    #[error(
        "{made_for}; this ONNX Runtime knows up to {known}: export the model for that, or use a newer one"
    )]
    Newer {
        /// What the model says that it needs.
        made_for: String,
        /// The newest that the library has.
        known: String,
    },
    /// ONNX Runtime refuses it.
    #[error("ONNX Runtime refuses the model: {0}; check the file with onnx.checker")]
    Refused(String),
    /// The file is no ONNX model.
    #[error("the model cannot be read: {0}; was the file copied whole?")]
    Malformed(String),
    /// Weights that the model keeps in another file cannot be read.
    #[error("the model keeps weights in '{location}', which cannot be used: {reason}")]
    External {
        /// The path, as the model writes it.
        location: String,
        /// Why.
        reason: String,
    },
    /// An input or output that the protocol has no form for.
    #[error("{place} '{name}' is {found}; only tensors of the protocol's datatypes can be served")]
    Unsupported {
        /// `input` or `output`.
        place: &'static str,
        /// Its name.
        name: String,
        /// What it is.
        found: String,
    },
    /// An input or output that a request cannot name.
    #[error("{place} {position} has {problem}; save the model with a name of its own for each")]
    Name {
        /// `input` or `output`.
        place: &'static str,
        /// Which one, from 0.
        position: usize,
        /// What is wrong with its name.
        problem: String,
    },
}

/// A model's bytes, read once, with those of the files that it keeps weights in.
#[derive(Clone, Debug, Default)]
pub struct ModelSource {
    model: Bytes,
    external: BTreeMap<String, Bytes>,
}

impl ModelSource {
    /// Takes a model's bytes, and asks `read` for each file that it keeps weights in, by the path that
    /// the model writes.
    ///
    /// # Errors
    /// [`ModelError::Malformed`], or [`ModelError::External`] with the reason that `read` gives.
    pub fn new(model: Bytes, read: impl Fn(&str) -> Result<Bytes, String>) -> Result<Self, ModelError> {
        let locations =
            external::locations(&model).map_err(|error| ModelError::Malformed(error.to_string()))?;
        let mut external = BTreeMap::new();
        for location in locations {
            let bytes = read(&location)
                .map_err(|reason| ModelError::External { location: location.clone(), reason })?;
            external.insert(location, bytes);
        }
        Ok(Self { model, external })
    }

    /// The model's own bytes.
    pub fn model(&self) -> &Bytes {
        &self.model
    }

    /// The files that it keeps weights in, by the path that the model writes.
    pub fn external(&self) -> &BTreeMap<String, Bytes> {
        &self.external
    }
}

/// A model, open and ready to run.
#[derive(Debug)]
pub struct ModelSession {
    session: Session,
    signature: Arc<Signature>,
    /// One for each input.
    gather: Vec<GatherBuffer>,
    threads: usize,
    /// ONNX Runtime uses them where they lie; freed after the session.
    _weights: BTreeMap<String, Bytes>,
}

impl ModelSession {
    /// Opens a model. Takes up to seconds: call it on a blocking thread.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn open(runtime: &Runtime, source: &ModelSource) -> Result<Self, ModelError> {
        let refused = |error: ort::Error| refusal(&one_line(error.message()));
        let mut builder = builder(runtime).map_err(refused)?;
        weights::give(&mut builder, &source.external).map_err(refused)?;
        let session = builder.commit_from_memory(&source.model).map_err(refused)?;
        let signature = Signature {
            inputs: specs("input", session.inputs())?,
            outputs: specs("output", session.outputs())?,
        };
        let gather = signature.inputs.iter().map(|_| GatherBuffer::default()).collect();
        Ok(Self {
            session,
            signature: Arc::new(signature),
            gather,
            threads: runtime.options.intra_threads.max(1),
            _weights: source.external.clone(),
        })
    }

    /// What it takes and gives.
    pub fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    /// Threads that share one run.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs the model on inputs in its own order, and copies out the outputs at the positions asked for.
    ///
    /// # Errors
    /// `InvalidArgument` if ONNX Runtime refuses the inputs, `Internal` if it fails otherwise.
    pub fn run(&mut self, inputs: &[Tensor], wanted: &[usize]) -> Result<Vec<Tensor>, Error> {
        self.run_batch(&[inputs], wanted, None)
    }

    /// Runs the model once for several requests, whose inputs are alike but for the first dimension, and
    /// copies out the outputs of all of them at the positions asked for; [`split`](super::split) takes them
    /// apart. The inputs of several requests are copied into memory that the session keeps; those of a
    /// single one are used where they lie. `stop` ends the run from another thread.
    ///
    /// # Errors
    /// As [`run`](Self::run); for all requests, whichever of them is at fault.
    pub fn run_batch(
        &mut self,
        requests: &[&[Tensor]],
        wanted: &[usize],
        stop: Option<&RunStop>,
    ) -> Result<Vec<Tensor>, Error> {
        let values: Result<Vec<_>, ort::Error> = match requests {
            [inputs] => inputs.iter().map(|tensor| values::to_ort(tensor.into())).collect(),
            _ => {
                let gathered = self.gather.iter_mut().enumerate();
                let gathered = gathered.map(|(position, buffer)| buffer.gather(requests, position));
                let gathered = gathered.collect::<Result<Vec<_>, _>>()?;
                gathered.into_iter().map(values::to_ort).collect()
            }
        };
        let values = values.map_err(run_failed)?;
        let outputs = match stop {
            Some(stop) => self.session.run_with_options(values.as_slice(), stop.options()),
            None => self.session.run(values.as_slice()),
        };
        let outputs = outputs.map_err(run_failed)?;
        wanted
            .iter()
            .map(|&position| {
                let spec = self.signature.outputs.get(position);
                let spec =
                    spec.ok_or_else(|| Error::internal(format!("the model has no output {position}")))?;
                values::from_ort(&spec.name, &outputs[position])
            })
            .collect()
    }
}

/// Where ONNX Runtime looks for files that a model names. All that a model may have is handed in as bytes;
/// whatever else it names must not be found, and nothing lies below a device.
const EXTERNAL_FOLDER: &str = "session.model_external_initializers_file_folder_path";
const NOWHERE: &str = "/dev/null/nowhere";

fn builder(runtime: &Runtime) -> Result<SessionBuilder, ort::Error> {
    let cpu = ep::CPU::default().with_arena_allocator(runtime.options.arena).build();
    let builder = Session::builder(&runtime.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(runtime.options.intra_threads.max(1))?
        // Spinning threads would take the cores that other requests need.
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_execution_providers([cpu])?
        .with_config_entry(EXTERNAL_FOLDER, NOWHERE)?
        // ONNX Runtime's own format would not be seen by the walk over the protobuf.
        .with_config_entry("session.load_model_format", "ONNX")?;
    Ok(builder)
}

fn specs(place: &'static str, outlets: &[Outlet]) -> Result<Vec<TensorSpec>, ModelError> {
    for (position, outlet) in outlets.iter().enumerate() {
        let name = outlet.name();
        let problem = if name.is_empty() {
            "no name".to_owned()
        } else if outlets.iter().take(position).any(|other| other.name() == name) {
            format!("the name '{name}' of another")
        } else {
            continue;
        };
        return Err(ModelError::Name { place, position, problem });
    }
    outlets
        .iter()
        .map(|outlet| {
            let unsupported = || ModelError::Unsupported {
                place,
                name: outlet.name().to_owned(),
                found: outlet.dtype().to_string(),
            };
            let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
                return Err(unsupported());
            };
            let datatype = values::datatype_of(*ty).ok_or_else(unsupported)?;
            Ok(TensorSpec { name: outlet.name().to_owned(), datatype, shape: shape.to_vec() })
        })
        .collect()
}

/// ONNX Runtime tells a bad argument from a fault of its own by its code.
fn run_failed(error: ort::Error) -> Error {
    let code = match error.code() {
        ort::ErrorCode::InvalidArgument => ErrorCode::InvalidArgument,
        _ => ErrorCode::Internal,
    };
    Error::new(code, format!("the model failed: {}", one_line(error.message())))
}

/// Puts into words of our own what ONNX Runtime says with its source files and functions around it.
fn refusal(text: &str) -> ModelError {
    let word_after = |mark: &str| {
        let rest = text.split_once(mark)?.1.split_whitespace().next()?;
        Some(rest.trim_end_matches(['.', ',']).to_owned())
    };
    let opset = || {
        let (opset, domain) = (word_after("Opset ")?, word_after("official support for domain ")?);
        Some((format!("opset {opset} of domain {domain}"), word_after("is till opset ")?))
    };
    let format = || {
        let version = word_after("Unsupported model IR version: ")?;
        Some((format!("version {version} of the ONNX format"), word_after("max supported IR version: ")?))
    };
    match opset().or_else(format) {
        Some((made_for, known)) => ModelError::Newer { made_for, known },
        None => ModelError::Refused(text.to_owned()),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_of_a_newer_kind_is_refused_in_plain_words() {
        let text = "model_load_utils.h:46 void onnxruntime::ValidateOpsetForDomain(int) ONNX Runtime only \
                    *guarantees* support for models stamped with official released onnx opset versions. Opset 99 \
                    is under development and support for this is limited. Current official support for domain \
                    ai.onnx is till opset 23.";
        let expected = "opset 99 of domain ai.onnx; this ONNX Runtime knows up to 23: export the model for that, \
                        or use a newer one";
        assert_eq!(refusal(text).to_string(), expected);
        let text = "model.cc:256 Unsupported model IR version: 99, max supported IR version: 11";
        assert!(
            refusal(text)
                .to_string()
                .starts_with("version 99 of the ONNX format; this ONNX Runtime knows up to 11")
        );
        assert!(matches!(refusal("Opset 5 is odd"), ModelError::Refused(_)));
    }
}
