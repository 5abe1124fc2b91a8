//! Where the files lie that are measured with, seen from a checkout.

use std::path::{Path, PathBuf};

use nuke_host::model::{ModelSource, Runtime, RuntimeOptions};

use crate::Outcome;

/// A path of the checkout.
pub(crate) fn in_checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The file, or the one of that name in the checkout if there is none from here.
pub(crate) fn read(path: &Path) -> Outcome<Vec<u8>> {
    let path = if path.exists() {
        path.to_owned()
    } else {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
    };
    std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// A model without weights in other files.
pub(crate) fn model(path: &Path) -> Outcome<ModelSource> {
    let none = |location: &str| Err(format!("{location} is not read here: name a model that is one file"));
    Ok(ModelSource::new(read(path)?.into(), none)?)
}

/// A file's name, for tables.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// ONNX Runtime as the host has it unless told otherwise: one thread for each session, an arena.
pub(crate) fn onnxruntime() -> Outcome<Runtime> {
    let library = std::env::var_os("NUKE_ORT_LIB").filter(|value| !value.is_empty()).map(PathBuf::from);
    Ok(Runtime::start(RuntimeOptions { library, intra_threads: 1 })?)
}
