//! From a model's bytes to a session on the device that was asked for.
//!
//! Owns the choice of the device, which is made once for a model and then holds for all of its sessions, and what
//! ONNX Runtime is told of each session. Whatever runs elsewhere than it was asked to is refused here, or told.

use std::path::PathBuf;

use ort::ep;
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};

use super::options::{Device, DeviceWish, SessionOptions};
use super::placement::{self, Placement};
use super::runtime::Runtime;
use super::session::{ModelError, ModelSource, one_line, refusal, specs};
use super::signature::TensorSpec;
use super::values::{self, Elements};
use super::{Signature, provider, weights};

/// Where ONNX Runtime looks for files that a model names. All that a model may have is handed in as bytes;
/// whatever else it names must not be found, and nothing lies below a device.
const EXTERNAL_FOLDER: &str = "session.model_external_initializers_file_folder_path";
const NOWHERE: &str = "/dev/null/nowhere";
/// With this, ONNX Runtime refuses a model of which a single node would run on the cores.
const NO_FALLBACK: &str = "session.disable_cpu_ep_fallback";
/// How that refusal can be told from any other.
const FALLS_BACK: &str = "fallback to CPU EP has been explicitly disabled";
/// What open dimensions are tried with.
const OPEN: [usize; 3] = [1, 8, 224];
/// Elements of an input that is made up.
const MOST_ELEMENTS: usize = 1 << 26;

/// Decides where a model runs. Opens sessions, if that may be a GPU.
///
/// # Errors
/// [`ModelError::Device`] if it has to be one and cannot.
pub(super) fn choose(
    runtime: &Runtime,
    source: &ModelSource,
    options: &SessionOptions,
) -> Result<Placement, ModelError> {
    match options.device {
        DeviceWish::Cpu => Ok(Placement::cpu("workers.device is cpu")),
        DeviceWish::Cuda(number) => {
            let device = Device::Cuda(number);
            on_gpu(runtime, source, options, device)
                .map_err(|reason| ModelError::Device { device: device.to_string(), reason })
        }
        DeviceWish::Auto => {
            let placed = on_gpu(runtime, source, options, Device::Cuda(0));
            Ok(placed.unwrap_or_else(|reason| Placement::cpu(format!("auto: {reason}"))))
        }
    }
}

/// The three checks: the library and the device, that nothing falls back, and if something does, what it is.
fn on_gpu(
    runtime: &Runtime,
    source: &ModelSource,
    options: &SessionOptions,
    device: Device,
) -> Result<Placement, String> {
    if let Some(reason) = runtime.why_not_on(device) {
        return Err(reason);
    }
    let Device::Cuda(number) = device else {
        return Ok(Placement::cpu("it is no GPU"));
    };
    let told = |error: ort::Error| provider::explain(error.message(), number, runtime.library());
    let strict = builder(runtime, source, options, device)
        .and_then(|builder| Ok(builder.with_config_entry(NO_FALLBACK, "1")?))
        .and_then(|mut builder| builder.commit_from_memory(source.model()));
    match strict {
        Ok(_) => {
            let reason = "all of its nodes run on the GPU".to_owned();
            return Ok(Placement { device, reason, nodes: Default::default() });
        }
        Err(error) if error.message().contains(FALLS_BACK) => {}
        Err(error) => return Err(told(error)),
    }
    let folder = Profile::folder()?;
    let opened = builder(runtime, source, options, device)
        .and_then(|builder| Ok(builder.with_profiling(folder.0.join("nodes"))?))
        .and_then(|mut builder| builder.commit_from_memory(source.model()));
    let nodes = nodes_of(opened.map_err(told)?)?;
    placement::judge(&nodes, device)
}

/// A folder of this process alone, which goes when it is dropped.
struct Profile(PathBuf);

impl Profile {
    fn folder() -> Result<Self, String> {
        use std::os::unix::fs::DirBuilderExt as _;
        use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("nuke-profile-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| format!("no folder for a profile can be made: {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // It is in the system's folder of things that may go.
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a session that writes a profile once, and reads where its nodes ran.
fn nodes_of(mut session: Session) -> Result<Vec<placement::Node>, String> {
    let inputs = specs("input", session.inputs()).map_err(|error| error.to_string())?;
    let mut failure = "its inputs are too large to be made up".to_owned();
    let ran = OPEN.iter().any(|&open| match run_once(&mut session, &inputs, open) {
        Some(Ok(())) => true,
        Some(Err(reason)) => {
            failure = reason;
            false
        }
        None => false,
    });
    let written = session.end_profiling().map_err(|error| one_line(error.message()))?;
    if !ran {
        return Err(format!(
            "some of its nodes may run on the cores, and which cannot be found out, since it does not run with \
             made-up inputs: {failure}"
        ));
    }
    let text = std::fs::read_to_string(&written).map_err(|error| format!("{written}: {error}"))?;
    placement::read_profile(&text)
}

/// One run on zeros; `None` if they cannot be made.
fn run_once(session: &mut Session, inputs: &[TensorSpec], open: usize) -> Option<Result<(), String>> {
    let zeros: Option<Vec<(Vec<usize>, Vec<u8>)>> = inputs.iter().map(|spec| zeros(spec, open)).collect();
    let zeros = zeros?;
    let lent: Result<Vec<SessionInputValue<'_>>, ort::Error> = inputs
        .iter()
        .zip(&zeros)
        .map(|(spec, (shape, data))| values::to_ort(Elements { datatype: spec.datatype, shape, data }))
        .collect();
    let ran = lent.and_then(|values| session.run(values.as_slice()).map(drop));
    Some(ran.map_err(|error| one_line(error.message())))
}

fn zeros(spec: &TensorSpec, open: usize) -> Option<(Vec<usize>, Vec<u8>)> {
    let shape: Vec<usize> =
        spec.shape.iter().map(|&dimension| usize::try_from(dimension).unwrap_or(open)).collect();
    let count = shape.iter().try_fold(1_usize, |count, &dimension| count.checked_mul(dimension));
    let count = count.filter(|&count| count <= MOST_ELEMENTS)?;
    // A text without a letter is four bytes of length.
    Some((shape, vec![0; count * spec.datatype.width().unwrap_or(4)]))
}

/// A session that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) signature: Signature,
    /// Why it has weights of its own, although they were to be shared and others share them.
    pub(super) unshared: Option<String>,
}

/// A session on a device.
///
/// # Errors
/// [`ModelError`].
pub(super) fn open(
    runtime: &Runtime,
    source: &ModelSource,
    options: &SessionOptions,
    device: Device,
) -> Result<Opened, ModelError> {
    let refused = |error: ort::Error| match device {
        Device::Cpu => refusal(&one_line(error.message())),
        Device::Cuda(number) => ModelError::Device {
            device: device.to_string(),
            reason: provider::explain(error.message(), number, runtime.library()),
        },
    };
    let shared = open_shared(runtime, source, options, device);
    let (shared, unshared) = match shared.transpose() {
        Ok(shared) => (shared, None),
        Err(error) => (None, Some(one_line(error.message()))),
    };
    let session = match shared {
        Some(session) => session,
        None => {
            let mut builder = builder(runtime, source, options, device).map_err(refused)?;
            builder.commit_from_memory(source.model()).map_err(refused)?
        }
    };
    let signature =
        Signature { inputs: specs("input", session.inputs())?, outputs: specs("output", session.outputs())? };
    Ok(Opened { session, signature, unshared })
}

/// A session whose weights are those of all other sessions of the model, if they are to be shared and can be. A
/// GPU has a copy of its own for each session.
fn open_shared(
    runtime: &Runtime,
    source: &ModelSource,
    options: &SessionOptions,
    device: Device,
) -> Option<Result<Session, ort::Error>> {
    if !options.share_weights || device != Device::Cpu {
        return None;
    }
    let shared = source.shared_weights().get(|| optimised(runtime, source, options))?;
    let opened = builder(runtime, source, options, device)
        .and_then(|builder| shared.lend(builder))
        .and_then(|mut builder| builder.commit_from_memory(&shared.model));
    Some(opened)
}

/// The model as ONNX Runtime optimises it, by way of memory that only looks like a file.
#[cfg(target_os = "linux")]
fn optimised(runtime: &Runtime, source: &ModelSource, options: &SessionOptions) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;

    use rustix::fs::{MemfdFlags, memfd_create};

    let memory = memfd_create("nuke-model", MemfdFlags::CLOEXEC).map_err(|error| error.to_string())?;
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let opened = builder(runtime, source, options, Device::Cpu)
        .and_then(|builder| Ok(builder.with_optimized_model_path(&path)?))
        // It warns that the model is for this machine alone.
        .and_then(|builder| Ok(builder.with_log_level(LogLevel::Error)?))
        .and_then(|mut builder| builder.commit_from_memory(source.model()));
    drop(opened.map_err(|error| one_line(error.message()))?);
    let mut model = Vec::new();
    let mut file = std::fs::File::open(&path).map_err(|error| error.to_string())?;
    file.read_to_end(&mut model).map_err(|error| error.to_string())?;
    Ok(model)
}

/// Other systems have no such memory.
#[cfg(not(target_os = "linux"))]
fn optimised(_: &Runtime, _: &ModelSource, _: &SessionOptions) -> Result<Vec<u8>, String> {
    Err("weights are shared on Linux only".to_owned())
}

fn builder(
    runtime: &Runtime,
    source: &ModelSource,
    options: &SessionOptions,
    device: Device,
) -> Result<SessionBuilder, ort::Error> {
    // This sets the arena of the machine's memory, whatever the device is; it registers nothing.
    let mut providers = vec![ep::CPU::default().with_arena_allocator(options.arena.enabled).build()];
    if let Device::Cuda(number) = device {
        providers.extend(provider::providers(number, options));
    }
    let mut builder = Session::builder(&runtime.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(runtime.options.intra_threads.max(1))?
        // Spinning threads would take the cores that other requests need.
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_execution_providers(providers)?
        .with_config_entry(EXTERNAL_FOLDER, NOWHERE)?
        // ONNX Runtime's own format would not be seen by the walk over the protobuf.
        .with_config_entry("session.load_model_format", "ONNX")?;
    weights::give(&mut builder, source.external())?;
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelSession;
    use crate::scheduler::testing;

    fn source(model: &str) -> ModelSource {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/models");
        let bytes = std::fs::read(format!("{folder}/{model}/1/model.onnx")).unwrap();
        ModelSource::new(bytes.into(), |_| Err(String::new())).unwrap()
    }

    fn on(device: DeviceWish) -> SessionOptions {
        SessionOptions { device, ..SessionOptions::default() }
    }

    /// Whether there is a GPU; says so if not.
    fn has_gpu() -> bool {
        let reason = testing::runtime().why_not_on(Device::Cuda(0));
        if let Some(reason) = &reason {
            println!("skipped: no CUDA device: {reason}");
        }
        reason.is_none()
    }

    #[test]
    fn a_gpu_that_is_asked_for_is_had_or_the_model_is_refused() {
        let (runtime, source) = (testing::runtime(), source("tiny"));
        // No machine has that many.
        let error = ModelSession::open(&runtime, &source, &on(DeviceWish::Cuda(1000))).unwrap_err();
        assert!(matches!(&error, ModelError::Device { device, .. } if device == "cuda:1000"), "{error}");
        assert!(error.to_string().starts_with("workers.device is cuda:1000: "), "{error}");
    }

    #[test]
    fn auto_says_what_it_chose_and_why() {
        let (runtime, source) = (testing::runtime(), source("tiny"));
        let session = ModelSession::open(&runtime, &source, &on(DeviceWish::Auto)).unwrap();
        let placement = session.placement();
        if has_gpu() {
            assert_eq!(placement.device, Device::Cuda(0));
        } else {
            assert_eq!(placement.device, Device::Cpu);
            assert!(placement.reason.starts_with("auto: "), "{}", placement.reason);
        }
        // What was decided holds for those who ask for just that.
        let device = placement.device;
        let again = ModelSession::open(&runtime, &source, &on(device.into())).unwrap();
        assert_eq!(again.placement(), placement);
        let session = ModelSession::open(&runtime, &self::source("tiny"), &on(DeviceWish::Cpu)).unwrap();
        assert_eq!(
            (session.placement().device, session.placement().reason.as_str()),
            (Device::Cpu, "workers.device is cpu")
        );
    }

    #[test]
    fn a_gpu_answers_as_the_cores_do() {
        if !has_gpu() {
            return;
        }
        let (runtime, source) = (testing::runtime(), source("tiny"));
        let mut answers = [DeviceWish::Cpu, DeviceWish::Cuda(0)].map(|device| {
            let mut session = ModelSession::open(&runtime, &source, &on(device)).unwrap();
            let spec = session.signature().inputs[0].clone();
            let (shape, data) = zeros(&spec, 4).unwrap();
            let input = crate::model::tensor::Tensor::new(spec.name, spec.datatype, shape, data).unwrap();
            session.run(&[input], &[0]).unwrap()
        });
        let elements =
            |tensor: &crate::model::tensor::Tensor| bytemuck::pod_collect_to_vec::<u8, f32>(&tensor.data);
        let (cores, gpu) = (elements(&answers[0].remove(0)), elements(&answers[1].remove(0)));
        assert!(cores.iter().zip(&gpu).all(|(cores, gpu)| (cores - gpu).abs() < 1e-3), "{cores:?} {gpu:?}");
    }

    /// The profile of a real run, from which the third check reads; without a GPU every node is on the cores.
    #[test]
    fn nodes_are_read_from_a_real_profile() {
        let (runtime, source) = (testing::runtime(), source("tiny"));
        let folder = Profile::folder().unwrap();
        let builder = builder(&runtime, &source, &on(DeviceWish::Cpu), Device::Cpu).unwrap();
        let mut builder = builder.with_profiling(folder.0.join("nodes")).unwrap();
        let nodes = nodes_of(builder.commit_from_memory(source.model()).unwrap()).unwrap();
        assert!(!nodes.is_empty());
        let error = placement::judge(&nodes, Device::Cuda(0)).unwrap_err();
        assert_eq!(error, format!("none of its {} nodes runs on the GPU", nodes.len()));
        let path = folder.0.clone();
        drop(folder);
        assert!(!path.exists());
    }

    /// The words that the second check waits for are ONNX Runtime's own.
    #[test]
    fn a_fallback_that_is_not_allowed_is_refused_in_the_words_that_are_waited_for() {
        let (runtime, source) = (testing::runtime(), source("tiny"));
        let builder = builder(&runtime, &source, &on(DeviceWish::Cpu), Device::Cpu).unwrap();
        let mut builder = builder.with_config_entry(NO_FALLBACK, "1").unwrap();
        let error = builder.commit_from_memory(source.model()).unwrap_err();
        assert!(error.message().contains(FALLS_BACK), "{error}");
    }

    #[test]
    fn sessions_with_shared_weights_answer_as_others_do() {
        let runtime = testing::runtime();
        let bytes =
            std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/digits/1/model.onnx")).unwrap();
        let source = ModelSource::new(bytes.into(), |_| Err(String::new())).unwrap();
        let mut answers = Vec::new();
        for (share_weights, sessions) in [(false, 1), (true, 3)] {
            let options = SessionOptions { share_weights, ..on(DeviceWish::Cpu) };
            let open = |_| ModelSession::open(&runtime, &source, &options).unwrap();
            let opened: Vec<ModelSession> = (0..sessions).map(open).collect();
            for mut session in opened {
                let spec = session.signature().inputs[0].clone();
                let (shape, mut data) = zeros(&spec, 2).unwrap();
                data.iter_mut().enumerate().for_each(|(at, byte)| *byte = u8::try_from(at % 50).unwrap());
                let input = crate::model::tensor::Tensor::new(spec.name, spec.datatype, shape, data).unwrap();
                answers.push(session.run(&[input], &[0]).unwrap());
            }
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]));
    }
}
