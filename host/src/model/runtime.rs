//! The ONNX Runtime library of this process.
//!
//! Owns finding, loading and checking it, and the one environment. A missing or too old library is an
//! error that names the remedy, never a panic.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

use super::options::Device;
use super::provider;
use crate::install::{self, Flavour};

/// How ONNX Runtime is set up.
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// The shared library; `None` looks in the usual places.
    pub library: Option<PathBuf>,
    /// Threads within one operator, per session. One per worker scales best when requests are many.
    pub intra_threads: usize,
}

/// Why ONNX Runtime cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No library anywhere.
    #[error(
        "ONNX Runtime was not found (looked for {looked}); `nuke runtime install` gets it, or name a \
         libonnxruntime of 1.22 or newer with --ort-lib or NUKE_ORT_LIB"
    )]
    Missing {
        /// Where it was looked for.
        looked: String,
    },
    /// There is one, but it does not load or is too old.
    #[error("ONNX Runtime at {}: {message}; name one of 1.22 or newer with --ort-lib or NUKE_ORT_LIB", path.display())]
    Unusable {
        /// Which library.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The environment cannot be made.
    #[error("ONNX Runtime: {0}")]
    Environment(String),
}

/// The loaded library with its environment.
#[derive(Debug)]
pub struct Runtime {
    pub(super) environment: Environment,
    pub(super) options: RuntimeOptions,
    library: PathBuf,
    /// Devices that were found good.
    good: Mutex<Vec<Device>>,
}

impl Runtime {
    /// Loads the library and makes the process's one environment.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub fn start(options: RuntimeOptions) -> Result<Self, RuntimeError> {
        let library = find_library(options.library.as_deref())?;
        let unusable = |message: String| RuntimeError::Unusable {
            path: library.clone(),
            message: message.replace('\n', " "),
        };
        refuse_cut_short(&library).map_err(unusable)?;
        let builder = ort::init_from(&library).map_err(|error| unusable(error.to_string()))?;
        let environment = builder
            .with_name("nuke")
            .with_telemetry(false)
            .build()
            .map_err(|error| RuntimeError::Environment(error.to_string()))?;
        Ok(Self { environment, options, library, good: Mutex::default() })
    }

    /// The file that was loaded.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// How it was set up.
    pub fn options(&self) -> &RuntimeOptions {
        &self.options
    }

    /// Sets the threads within one operator, for sessions that are opened from now on.
    pub fn set_threads(&mut self, intra_threads: usize) {
        self.options.intra_threads = intra_threads;
    }

    /// Why no session can run on a device, or `None`: that the library lacks what it needs for it, that there is
    /// no such device, or what the driver says. A device that was found good is not looked at again.
    pub fn why_not_on(&self, device: Device) -> Option<String> {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.contains(&device) {
            return None;
        }
        let reason = provider::why_not(self, device);
        if reason.is_none() {
            good.push(device);
        }
        reason
    }

    /// What the library says of its own build.
    pub fn build_info() -> &'static str {
        ort::info()
    }
}

const NAME: &str = if cfg!(target_os = "macos") { "libonnxruntime.dylib" } else { "libonnxruntime.so" };

fn find_library(named: Option<&Path>) -> Result<PathBuf, RuntimeError> {
    if let Some(path) = named {
        if path.is_dir() {
            return find_among(vec![path.join(NAME)]);
        }
        return find_among(vec![path.to_owned()]);
    }
    let mut places = Vec::new();
    if let Some(folder) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        places.push(folder.join(NAME));
        places.push(folder.join("lib").join(NAME));
    }
    if let Some(cache) = crate::paths::cache_folder() {
        // Who has fetched the one for GPUs wants to use it; it runs on the cores just as well.
        for flavour in [Flavour::Cuda, Flavour::Cpu] {
            places.push(install::folder(&cache, flavour).join(NAME));
        }
    }
    places.push(Path::new("/usr/local/lib").join(NAME));
    places.push(Path::new("/usr/lib").join(NAME));
    find_among(places)
}

fn find_among(places: Vec<PathBuf>) -> Result<PathBuf, RuntimeError> {
    if let Some(found) = places.iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    let looked: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
    Err(RuntimeError::Missing { looked: looked.join(", ") })
}

/// What a shared library begins with: ELF, and both forms of Mach-O.
const LIBRARIES: [&[u8]; 3] = [b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"];

/// The loader maps a library into memory, and a process that touches what a cut-short file lacks dies by
/// SIGBUS: so an ELF file's own table of sections has to lie within the file.
fn refuse_cut_short(library: &Path) -> Result<(), String> {
    use std::io::Read as _;

    let mut header = Vec::new();
    let file = std::fs::File::open(library).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    file.take(64).read_to_end(&mut header).map_err(|error| error.to_string())?;
    // Other formats, and ELF of other widths, are left to the loader.
    let is_elf64 = header.starts_with(b"\x7fELF\x02\x01") && header.len() == 64;
    if !LIBRARIES.iter().any(|magic| header.starts_with(magic)) {
        return Err("the file is no shared library".to_owned());
    }
    let (Some(offset), Some(size), Some(count)) =
        (header.get(0x28..0x30), header.get(0x3a..0x3c), header.get(0x3c..0x3e))
    else {
        return Ok(());
    };
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
    let end = number(offset).saturating_add(number(size) * number(count));
    if is_elf64 && end > length {
        return Err(format!("the file has {length} bytes of at least {end}: it was cut short"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_there_is_named_with_the_remedy() {
        let named = Path::new("/nowhere/libonnxruntime.so");
        let text = find_library(Some(named)).unwrap_err().to_string();
        assert!(text.contains("/nowhere/libonnxruntime.so") && text.contains("--ort-lib"), "{text}");
    }

    /// Set for the process that has not loaded ONNX Runtime yet, as this one may have for other tests.
    const ALONE: &str = "NUKE_TEST_ALONE";

    #[test]
    fn a_file_that_is_no_library_is_refused_without_a_panic() {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let name = module_path!().split_once("::").map(|(_, module)| format!("{module}::in_a_process_alone"));
        command.args(["--exact", "--nocapture", "--test-threads=1"]).arg(name.unwrap()).env(ALONE, "1");
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    fn in_a_process_alone() {
        if std::env::var_os(ALONE).is_none() {
            return;
        }
        let options = RuntimeOptions { library: Some("Cargo.toml".into()), intra_threads: 1 };
        let text = Runtime::start(options).unwrap_err().to_string();
        assert!(text.starts_with("ONNX Runtime at Cargo.toml:"), "{text}");
        assert!(!text.contains('\n'));
    }
}
