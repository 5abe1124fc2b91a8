//! ONNX Runtime's providers for NVIDIA devices.
//!
//! Owns whether the library has them, whether the device is there, where the libraries of CUDA and cuDNN are
//! looked for, and the words for what is missing. Registering a provider proves little: so a session is opened
//! on the device, with a model of one node.

use std::path::Path;
use std::sync::OnceLock;

use ort::ep::{self, ArenaExtendStrategy, ExecutionProvider as _, ExecutionProviderDispatch};
use ort::session::Session;

use super::options::{ArenaExtend, Device, SessionOptions};
use super::runtime::Runtime;

/// A model of one node, `y = Relu(x)`, for four numbers: ONNX's version 8, opset 13.
const SMALLEST: &[u8] = b"\x08\x08:3\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x12\x01gZ\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x04b\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x04B\x02\x10\x0d";

/// Why a device cannot be used, or `None`. Opens a session the first time.
pub(super) fn why_not(runtime: &Runtime, device: Device) -> Option<String> {
    let Device::Cuda(number) = device else {
        return None;
    };
    let library = runtime.library();
    if !matches!(ep::CUDA::is_available(), Ok(true)) {
        return Some(format!(
            "ONNX Runtime at {} was built without CUDA; `nuke runtime install --cuda` gets one that was not",
            library.display()
        ));
    }
    preload(library);
    let options = SessionOptions::default();
    let opened = (|| -> Result<Session, ort::Error> {
        let builder = Session::builder(&runtime.environment)?;
        let mut builder = builder.with_execution_providers([cuda(number, &options)])?;
        builder.commit_from_memory(SMALLEST)
    })();
    opened.err().map(|error| explain(error.message(), number, library))
}

/// The providers for a device, the one to be asked first at the head.
pub(super) fn providers(number: u32, options: &SessionOptions) -> Vec<ExecutionProviderDispatch> {
    let mut providers = Vec::new();
    if options.tensorrt {
        providers.push(tensorrt(number));
    }
    providers.push(cuda(number, options));
    providers
}

fn cuda(number: u32, options: &SessionOptions) -> ExecutionProviderDispatch {
    let extend = match options.arena.extend {
        ArenaExtend::PowerOfTwo => ArenaExtendStrategy::NextPowerOfTwo,
        ArenaExtend::AsRequested => ArenaExtendStrategy::SameAsRequested,
    };
    let mut cuda = ep::CUDA::default()
        .with_device_id(i32::try_from(number).unwrap_or(i32::MAX))
        .with_arena_extend_strategy(extend)
        // An exhaustive search would be made anew for every size of a batch.
        .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic);
    if let Some(limit) = options.gpu_memory {
        cuda = cuda.with_memory_limit(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    cuda.build().error_on_failure()
}

/// TensorRT, with the engines that it builds kept: building one takes minutes. They are machine code, so that
/// they are kept only where nobody else can write.
fn tensorrt(number: u32) -> ExecutionProviderDispatch {
    let mut tensorrt = ep::TensorRT::default().with_device_id(i32::try_from(number).unwrap_or(i32::MAX));
    let folder = crate::paths::cache_folder().map(|cache| cache.join("tensorrt"));
    let folder = folder.filter(|folder| crate::paths::ensure_private(folder).is_ok());
    if let Some(folder) = folder.as_deref().and_then(Path::to_str) {
        tensorrt = tensorrt
            .with_engine_cache(true)
            .with_engine_cache_path(folder)
            .with_timing_cache(true)
            .with_timing_cache_path(folder);
    }
    tensorrt.build().error_on_failure()
}

/// Loads those libraries of CUDA and cuDNN that lie beside ONNX Runtime, once, in the order in which they
/// need each other. What is not there is left to the system's loader.
fn preload(library: &Path) {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        // The plain name may be a link into another folder.
        let real = std::fs::canonicalize(library);
        let Some(folder) = real.as_deref().unwrap_or(library).parent() else {
            return;
        };
        for name in ep::cuda::CUDA_DYLIBS.iter().chain(ep::cuda::CUDNN_DYLIBS) {
            let path = folder.join(name);
            if !path.exists() {
                continue;
            }
            match ort::util::preload_dylib(&path) {
                Ok(()) => tracing::debug!(path = %path.display(), "loaded"),
                Err(error) => tracing::warn!(path = %path.display(), %error, "it cannot be loaded"),
            }
        }
    });
}

/// What ONNX Runtime and CUDA say, in words with a remedy.
pub(super) fn explain(text: &str, number: u32, library: &Path) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let folder = library.parent().unwrap_or(library).display();
    if let Some(missing) = missing_library(&text) {
        let what = match missing {
            name if name.starts_with("libonnxruntime_providers") => {
                format!("`nuke runtime install --cuda` gets it, or put it into {folder}")
            }
            name if name.starts_with("libcuda.so") => "install NVIDIA's driver".to_owned(),
            name if name.starts_with("libcudnn") => {
                format!("install cuDNN 9 for CUDA 13, or put its libraries into {folder}")
            }
            name if name.starts_with("libnv") && !name.starts_with("libnvrtc") => {
                format!(
                    "install TensorRT 10, or put its libraries into {folder}, or set workers.tensorrt to false"
                )
            }
            _ => format!("install the libraries of CUDA 13, or put them into {folder}"),
        };
        return format!("the GPU's provider needs {missing}, which is not found: {what}");
    }
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["invalid device ordinal", "CUDA failure 101", "Invalid device"]) {
        return format!("there is no cuda:{number}; `nvidia-smi -L` lists the devices, from 0 on ({text})");
    }
    if says(&["no CUDA-capable device", "CUDA failure 100"]) {
        return format!(
            "no NVIDIA device is found; is its driver running, and may this process use it? ({text})"
        );
    }
    if says(&["driver version is insufficient", "CUDA failure 35"]) {
        return format!("the NVIDIA driver is too old for CUDA 13; install a newer one ({text})");
    }
    if says(&["out of memory", "CUDA failure 2:", "Failed to allocate memory"]) {
        return format!(
            "the memory of cuda:{number} is full; lower workers.gpu_memory or workers.max ({text})"
        );
    }
    format!("cuda:{number} cannot be used: {text}")
}

/// The name in the loader's "libx.so.1: cannot open shared object file".
fn missing_library(text: &str) -> Option<&str> {
    let (before, _) = text.split_once(": cannot open shared object file")?;
    before.split(|c: char| c.is_whitespace() || c == '/').next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        explain(text, 1, Path::new("/lib/ort/libonnxruntime.so"))
    }

    #[test]
    fn what_is_missing_is_named_with_the_remedy() {
        let load = |name: &str| {
            format!(
                "Failed to load library libonnxruntime_providers_cuda.so with error: {name}: cannot open shared object file: No such file or directory"
            )
        };
        for (name, remedy) in [
            ("libcublasLt.so.13", "install the libraries of CUDA 13, or put them into /lib/ort"),
            ("libcudnn.so.9", "install cuDNN 9"),
            ("libcuda.so.1", "NVIDIA's driver"),
            ("libnvinfer.so.10", "workers.tensorrt"),
            ("libnvrtc.so.13", "CUDA 13"),
            ("/x/libonnxruntime_providers_shared.so", "nuke runtime install --cuda"),
        ] {
            let text = told(&load(name));
            let name = name.rsplit('/').next().unwrap();
            assert!(
                text.contains(&format!("needs {name}, which is not found")) && text.contains(remedy),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cuda_says_is_put_into_words() {
        for (text, words) in [
            ("CUDA failure 101: invalid device ordinal ; GPU=1 ; hostname=h", "there is no cuda:1"),
            ("CUDA failure 100: no CUDA-capable device is detected", "no NVIDIA device is found"),
            (
                "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version",
                "driver is too old",
            ),
            ("CUDA failure 2: out of memory", "is full"),
            ("something\nelse", "cuda:1 cannot be used: something else"),
        ] {
            assert!(told(text).contains(words), "{}", told(text));
        }
    }

    #[test]
    fn the_smallest_model_is_one() {
        let runtime = crate::scheduler::testing::runtime();
        let mut builder = Session::builder(&runtime.environment).unwrap();
        let session = builder.commit_from_memory(SMALLEST).unwrap();
        assert_eq!((session.inputs()[0].name(), session.outputs()[0].name()), ("x", "y"));
    }

    #[test]
    fn a_library_without_cuda_says_so_and_never_falls_back() {
        let runtime = crate::scheduler::testing::runtime();
        if matches!(ep::CUDA::is_available(), Ok(true)) {
            println!("skipped: this ONNX Runtime has CUDA");
            return;
        }
        let reason = runtime.why_not_on(Device::Cuda(0)).unwrap();
        assert!(
            reason.contains("built without CUDA") && reason.contains("nuke runtime install --cuda"),
            "{reason}"
        );
        assert_eq!(runtime.why_not_on(Device::Cpu), None);
    }
}
