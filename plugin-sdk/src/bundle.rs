//! The read-only files and settings of the version that is being served.
//!
//! All was read when the version was loaded; still, each call copies from the host, so read in
//! [`Plugin::new`](crate::Plugin::new) what every request needs.

use crate::error::{Error, Result};
use crate::host;
pub use crate::pairs::Settings;

/// One file of the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its path inside the version's folder, with `/` between the parts.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
}

/// Who is being served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The model's name.
    pub model: String,
    /// The version's name.
    pub version: String,
}

/// Why a file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileError {
    NotFound,
    TooLarge,
}

/// The bytes of one file.
///
/// # Errors
/// `Internal`, naming the file, if the bundle does not have it or it is over the host's limit.
pub fn file(path: &str) -> Result<Vec<u8>> {
    host::read(path).map_err(|error| {
        Error::internal(match error {
            FileError::NotFound => format!("the bundle has no file '{path}': put it beside the model"),
            FileError::TooLarge => format!("the file '{path}' is over the host's limit for bundle files"),
        })
    })
}

/// The text of one file.
///
/// # Errors
/// As [`file()`], and if it is not UTF-8.
pub fn text(path: &str) -> Result<String> {
    String::from_utf8(file(path)?).map_err(|error| {
        Error::internal(format!("the file '{path}' is no UTF-8 text: {}", error.utf8_error()))
    })
}

/// All files of the bundle but the model itself and the plugin, sorted by path.
pub fn files() -> Vec<FileInfo> {
    host::files()
}

/// The pairs under `settings:` in bundle.yaml.
pub fn settings() -> Settings {
    Settings::new(host::settings())
}

/// The model and version that this instance belongs to.
pub fn whoami() -> Identity {
    host::whoami()
}
