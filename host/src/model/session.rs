//! One ONNX Runtime session: a model that can run one request, or one batch of them, at a time.
//!
//! Owns opening a model from bytes that were read once, and running it. It never reads a file.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ort::session::{RunOptions, Session};
use ort::value::{Outlet, ValueType};

use super::batch::GatherBuffer;
use super::options::{Device, SessionOptions, Shrink, Sizes};
use super::placement::Placement;
use super::runtime::Runtime;
use super::shared::SharedWeights;
use super::signature::{Signature, TensorSpec};
use super::staging::Staging;
use super::stop::RunStop;
use super::{external, open, values};
use crate::error::{Error, ErrorCode};
use crate::model::tensor::Tensor;
use crate::telemetry::RunTimes;

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
    /// It was to run on a GPU, and cannot.
    #[error("workers.device is {device}: {reason}")]
    Device {
        /// The device.
        device: String,
        /// Why not, and the remedy.
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

/// A model's bytes, read once, with those of the files that it keeps weights in, and what all sessions that are
/// opened from it have in common.
#[derive(Clone, Debug, Default)]
pub struct ModelSource {
    model: Bytes,
    external: BTreeMap<String, Bytes>,
    common: Arc<Common>,
}

/// What the sessions of one model have in common.
#[derive(Debug, Default)]
struct Common {
    weights: SharedWeights,
    /// Where they run, once that was decided, with what decided it.
    placement: Mutex<Option<(SessionOptions, Arc<Placement>)>>,
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
        Ok(Self { model, external, common: Arc::default() })
    }

    /// The model's own bytes.
    pub fn model(&self) -> &Bytes {
        &self.model
    }

    /// The files that it keeps weights in, by the path that the model writes.
    pub fn external(&self) -> &BTreeMap<String, Bytes> {
        &self.external
    }

    pub(super) fn shared_weights(&self) -> &SharedWeights {
        &self.common.weights
    }

    /// Decides where a model's sessions run, the first time that it is asked with these options.
    ///
    /// # Errors
    /// [`ModelError::Device`].
    pub fn placement(
        &self,
        runtime: &Runtime,
        options: &SessionOptions,
    ) -> Result<Arc<Placement>, ModelError> {
        let mut decided = self.common.placement.lock().unwrap_or_else(PoisonError::into_inner);
        match &*decided {
            Some((with, placement)) if is_same_place(with, options, placement) => Ok(Arc::clone(placement)),
            _ => {
                let placement = Arc::new(open::choose(runtime, self, options)?);
                *decided = Some((options.clone(), Arc::clone(&placement)));
                Ok(placement)
            }
        }
    }
}

/// Whether what was decided with one set of options holds with the other: what decides is the device, and how its
/// providers are set up.
fn is_same_place(with: &SessionOptions, options: &SessionOptions, placement: &Placement) -> bool {
    let wish = options.device;
    (wish == with.device || wish == placement.device.into())
        && (with.tensorrt, with.gpu_memory, with.arena)
            == (options.tensorrt, options.gpu_memory, options.arena)
}

/// A model, open and ready to run.
#[derive(Debug)]
pub struct ModelSession {
    session: Session,
    signature: Arc<Signature>,
    /// One for each input.
    gather: Vec<GatherBuffer>,
    /// On a GPU only.
    staging: Option<Staging>,
    placement: Arc<Placement>,
    threads: usize,
    shrink: Shrink,
    sizes: Sizes,
    times: RunTimes,
    unshared: Option<String>,
    /// ONNX Runtime uses them where they lie; freed after the session.
    _weights: BTreeMap<String, Bytes>,
}

impl ModelSession {
    /// Opens a model. Takes up to seconds: call it on a blocking thread.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn open(
        runtime: &Runtime,
        source: &ModelSource,
        options: &SessionOptions,
    ) -> Result<Self, ModelError> {
        let placement = source.placement(runtime, options)?;
        let device = placement.device;
        let open::Opened { session, signature, unshared } = open::open(runtime, source, options, device)?;
        let staging = match device {
            Device::Cpu => None,
            Device::Cuda(_) => {
                let staging = Staging::new(&session, device);
                Some(staging.map_err(|error| ModelError::Refused(one_line(error.message())))?)
            }
        };
        let gather = signature.inputs.iter().map(|_| GatherBuffer::default()).collect();
        let keeps = options.arena.enabled || staging.is_some();
        Ok(Self {
            session,
            signature: Arc::new(signature),
            gather,
            staging,
            placement,
            threads: runtime.options.intra_threads.max(1),
            shrink: if keeps { options.arena.shrink } else { Shrink::Never },
            sizes: Sizes::default(),
            times: RunTimes::default(),
            unshared,
            _weights: source.external.clone(),
        })
    }

    /// Where it runs, and why there.
    pub fn placement(&self) -> &Arc<Placement> {
        &self.placement
    }

    /// What it takes and gives.
    pub fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    /// Threads that share one run.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Why it has weights of its own, although they were to be shared: a kernel cannot share what it makes of them.
    pub fn unshared(&self) -> Option<&str> {
        self.unshared.as_deref()
    }

    /// Where the time of the last run went that succeeded.
    pub fn times(&self) -> RunTimes {
        self.times
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
        let made;
        let stop = match stop {
            Some(stop) => stop,
            None => {
                made = RunStop::new()?;
                &made
            }
        };
        let bytes: usize =
            requests.iter().flat_map(|inputs| inputs.iter()).map(|tensor| tensor.data.len()).sum();
        if !self.sizes.shrinks(bytes as u64, self.shrink) {
            return self.run_with(requests, wanted, stop.options());
        }
        let arenas = match self.placement.device {
            Device::Cpu => "cpu:0".to_owned(),
            Device::Cuda(number) => format!("gpu:{number}"),
        };
        let options = stop.shrinking(&arenas)?;
        let outcome = self.run_with(requests, wanted, &options);
        crate::memory::trim_now();
        outcome
    }

    fn run_with(
        &mut self,
        requests: &[&[Tensor]],
        wanted: &[usize],
        options: &RunOptions,
    ) -> Result<Vec<Tensor>, Error> {
        let begun = Instant::now();
        if let Some(staging) = &self.staging {
            let outputs = staging.run(&mut self.session, &self.signature, requests, wanted, options);
            // Copies to and from the device are part of the run.
            self.times = RunTimes { input: Duration::ZERO, infer: begun.elapsed(), output: Duration::ZERO };
            return outputs;
        }
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
        let gathered = Instant::now();
        let outputs = self.session.run_with_options(values.as_slice(), options).map_err(run_failed)?;
        let ran = Instant::now();
        let taken: Result<Vec<Tensor>, Error> = wanted
            .iter()
            .map(|&position| {
                let spec = self.signature.outputs.get(position);
                let spec =
                    spec.ok_or_else(|| Error::internal(format!("the model has no output {position}")))?;
                values::from_ort(&spec.name, &outputs[position])
            })
            .collect();
        self.times = RunTimes { input: gathered - begun, infer: ran - gathered, output: ran.elapsed() };
        taken
    }
}

/// What the protocol makes of a model's inputs or outputs.
///
/// # Errors
/// [`ModelError::Name`] or [`ModelError::Unsupported`].
pub(super) fn specs(place: &'static str, outlets: &[Outlet]) -> Result<Vec<TensorSpec>, ModelError> {
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
pub(super) fn run_failed(error: ort::Error) -> Error {
    let code = match error.code() {
        ort::ErrorCode::InvalidArgument => ErrorCode::InvalidArgument,
        _ => ErrorCode::Internal,
    };
    Error::new(code, format!("the model failed: {}", one_line(error.message())))
}

/// Puts into words of our own what ONNX Runtime says with its source files and functions around it.
pub(super) fn refusal(text: &str) -> ModelError {
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

pub(super) fn one_line(text: &str) -> String {
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
