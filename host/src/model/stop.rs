//! How a run is ended that nobody waits for any more.
//!
//! Owns the one handle that may be used from another thread than the session's. ONNX Runtime looks at it
//! between two operators: a single long one goes on to its end.

use std::sync::{Arc, Mutex, PoisonError};

use ort::session::RunOptions;

use crate::error::Error;

/// ONNX Runtime's key for the arenas that give back what no tensor needs after a run.
const SHRINKS: &str = "memory.enable_memory_arena_shrinkage";

/// Ends the one run that it was made for. Cloning it gives another handle for the same run.
#[derive(Clone)]
pub struct RunStop(Arc<Inner>);

struct Inner {
    plain: RunOptions,
    shrinking: Mutex<Shrinking>,
}

/// A run after which arenas shrink.
#[derive(Default)]
struct Shrinking {
    /// The run has been ended, if there is one yet or not.
    stopped: bool,
    options: Option<Arc<RunOptions>>,
}

impl std::fmt::Debug for RunStop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RunStop")
    }
}

impl RunStop {
    /// A handle for a run to come.
    ///
    /// # Errors
    /// `Internal` if ONNX Runtime has no memory for it.
    pub fn new() -> Result<Self, Error> {
        let plain = RunOptions::new().map_err(cannot_prepare)?;
        Ok(Self(Arc::new(Inner { plain, shrinking: Mutex::default() })))
    }

    /// Ends the run as soon as its present operator has ended; before or after the run, nothing happens to
    /// any other.
    pub fn stop(&self) {
        let mut shrinking = self.0.shrinking.lock().unwrap_or_else(PoisonError::into_inner);
        shrinking.stopped = true;
        for options in std::iter::once(&self.0.plain).chain(shrinking.options.as_deref()) {
            if let Err(error) = options.terminate() {
                tracing::warn!(%error, "a run that nobody waits for cannot be ended");
            }
        }
    }

    pub(super) fn options(&self) -> &RunOptions {
        &self.0.plain
    }

    /// As [`options`](Self::options), but the arenas that are named shrink after the run.
    ///
    /// # Errors
    /// `Internal` if ONNX Runtime has no memory for it.
    pub(super) fn shrinking(&self, arenas: &str) -> Result<Arc<RunOptions>, Error> {
        let made = RunOptions::new().and_then(|mut options| options.set(SHRINKS, arenas).map(|()| options));
        let options = Arc::new(made.map_err(cannot_prepare)?);
        let mut shrinking = self.0.shrinking.lock().unwrap_or_else(PoisonError::into_inner);
        if shrinking.stopped {
            options.terminate().map_err(cannot_prepare)?;
        }
        shrinking.options = Some(Arc::clone(&options));
        Ok(options)
    }
}

fn cannot_prepare(error: ort::Error) -> Error {
    Error::internal(format!("a run cannot be prepared: {}", error.message()))
}
