//! A worker's model in a process of its own, so that it may die without taking anything with it.
//!
//! Owns both sides: the host's, which a worker's thread drives like a session of its own, and that of the
//! process, `nuke worker`. It never decides what becomes of a request whose worker died: the scheduler does.
//!
//! Tensors lie in shared memory, at the places that a small description says; control goes over a socket in
//! messages of one size. Linux only.
//!
//! Invariants: a host never looks at memory that a worker can change, but copies it out and checks the copy; no
//! length, offset or text of a worker is trusted; a process does not outlive its host or its session, and each is
//! waited for.

mod cgroup;
mod channel;
mod executor;
mod loss;
mod memory;
mod message;
mod package;
mod places;
mod process;
#[cfg(test)]
pub mod scripted;
mod session;
mod signature;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use executor::Executor;
pub use loss::{Loss, LossKind, OpenError};
pub use session::ChildSession;
pub use worker::{WorkerArgs, run_worker};

use crate::model::{ModelSource, SessionOptions};
use package::{Package, Settings};

/// How processes of workers are started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsolationOptions {
    /// ONNX Runtime's library.
    pub library: PathBuf,
    /// Threads within one operator.
    pub intra_threads: usize,
    /// How the session is opened.
    pub session: SessionOptions,
    /// Bytes of private memory that a worker may use.
    pub memory: Option<u64>,
    /// How long a worker may stay silent.
    pub health: Duration,
}

/// A model's files in shared memory, for all workers of a generation.
#[derive(Clone, Debug)]
pub struct Isolated {
    package: Arc<Package>,
    options: IsolationOptions,
}

impl Isolated {
    /// Copies a model into shared memory.
    ///
    /// # Errors
    /// There is not so much of it.
    pub fn new(source: &ModelSource, options: IsolationOptions) -> Result<Self, String> {
        let settings = Settings { intra_threads: options.intra_threads, session: options.session.clone() };
        let package = Arc::new(Package::new(source, settings)?);
        Ok(Self { package, options })
    }

    /// Starts one more worker's process and has it open the model. Takes up to seconds.
    ///
    /// # Errors
    /// The reason, for the operator.
    pub fn open(&self) -> Result<ChildSession, OpenError> {
        ChildSession::open(&self.package, &self.options)
    }
}

/// What tells this build of the program from every other: the file that it was started from.
fn build() -> u64 {
    use std::hash::{Hash as _, Hasher as _};
    use std::os::unix::fs::MetadataExt as _;

    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    let file = crate::child::program().and_then(std::fs::metadata);
    if let Ok(file) = file {
        (file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()).hash(&mut hasher);
    }
    hasher.finish()
}
