//! How getting a library can fail, each with its remedy.
//!
//! Owns the words. An address is shown without what it may hold of a password.

use std::io;
use std::path::{Path, PathBuf};

/// Why a library was not installed. What was there before still is.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Nothing is pinned for this platform.
    #[error(
        "no {package} is pinned for {os} on {arch}; name an ONNX Runtime library of your own with --ort-lib or \
         NUKE_ORT_LIB"
    )]
    NoPin {
        /// The package.
        package: &'static str,
        /// The system.
        os: String,
        /// The processor.
        arch: String,
    },
    /// There is no cache folder.
    #[error("there is no folder to install into: neither NUKE_CACHE nor HOME is set; set one, or pass --dir")]
    NoFolder,
    /// What pip's settings say makes no sense here.
    #[error("{name} is '{value}', {problem}")]
    Setting {
        /// The variable or file and key.
        name: String,
        /// What it says.
        value: String,
        /// What is wrong with it, and what was expected.
        problem: String,
    },
    /// No certificate to trust.
    #[error(
        "no certificate to trust: {0}; install the system's (Debian: ca-certificates), or name a file with SSL_CERT_FILE"
    )]
    Certificates(String),
    /// The registry does not answer.
    #[error(
        "{address} cannot be reached: {reason}; on a machine without a network fetch {wheel} elsewhere and pass \
         --from FILE"
    )]
    Unreachable {
        /// Whom it was asked of.
        address: String,
        /// Why.
        reason: String,
        /// What is missing.
        wheel: &'static str,
    },
    /// It answers, but not with what was asked for.
    #[error("{address}: {problem}")]
    Answer {
        /// Whom it was asked of.
        address: String,
        /// What came.
        problem: String,
    },
    /// Not the file that is pinned.
    #[error(
        "{file} has SHA-256 {found}, expected {expected}: it is not the file that this host was built for, and \
         nothing of it is used"
    )]
    Digest {
        /// Which file.
        file: String,
        /// What it has.
        found: String,
        /// What is pinned.
        expected: &'static str,
    },
    /// The package is no zip file, or lacks a library.
    #[error("{}: {problem}", path.display())]
    Wheel {
        /// The package.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The disk has no room.
    #[error("the disk of {} is full; make room, or install elsewhere with --dir", path.display())]
    Full {
        /// What could not be written.
        path: PathBuf,
    },
    /// Any other fault of the file system.
    #[error("cannot {doing} {}: {error}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl InstallError {
    /// A fault of the file system while `doing` something with `path`.
    pub(super) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::File { doing, path, error },
        }
    }
}
