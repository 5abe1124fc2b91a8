//! How a run is ended that nobody waits for any more.
//!
//! Owns the one handle that may be used from another thread than the session's. ONNX Runtime looks at it
//! between two operators: a single long one goes on to its end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ort::session::RunOptions;

use crate::error::Error;

/// Ends the one run that it was made for. Cloning it gives another handle for the same run.
#[derive(Clone)]
pub struct RunStop(Arc<Shared>);

struct Shared {
    options: RunOptions,
    listener: Mutex<Listener>,
    shrinking: Mutex<Shrinking>,
}

/// A run after which arenas shrink.
#[derive(Default)]
struct Shrinking {
    /// The run has been ended, if there is one yet or not.
    stopped: bool,
    options: Option<Arc<RunOptions>>,
}

/// ONNX Runtime's key for the arenas that give back what no tensor needs after a run.
const SHRINKS: &str = "memory.enable_memory_arena_shrinkage";

/// Who else is to be told: the run may take place in another process.
enum Listener {
    Nobody,
    Waiting(Box<dyn FnOnce() + Send>),
    Stopped,
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
        let options = RunOptions::new().map_err(cannot_prepare)?;
        let listener = Mutex::new(Listener::Nobody);
        Ok(Self(Arc::new(Shared { options, listener, shrinking: Mutex::default() })))
    }

    /// Ends the run as soon as its present operator has ended; before or after the run, nothing happens to
    /// any other.
    pub fn stop(&self) {
        let mut shrinking = self.0.shrinking.lock().unwrap_or_else(PoisonError::into_inner);
        shrinking.stopped = true;
        for options in std::iter::once(&self.0.options).chain(shrinking.options.as_deref()) {
            if let Err(error) = options.terminate() {
                tracing::warn!(%error, "a run that nobody waits for cannot be ended");
            }
        }
        drop(shrinking);
        let listener = std::mem::replace(&mut *self.listener(), Listener::Stopped);
        if let Listener::Waiting(tell) = listener {
            tell();
        }
    }

    /// Calls `tell` once the run is to end, on the thread that ends it; at once if it is to end already.
    pub fn on_stop(&self, tell: impl FnOnce() + Send + 'static) {
        let mut listener = self.listener();
        if matches!(*listener, Listener::Stopped) {
            drop(listener);
            tell();
        } else {
            *listener = Listener::Waiting(Box::new(tell));
        }
    }

    /// The run has ended: nobody is to be told any more.
    pub fn forget(&self) {
        let mut listener = self.listener();
        if matches!(*listener, Listener::Waiting(_)) {
            *listener = Listener::Nobody;
        }
    }

    fn listener(&self) -> MutexGuard<'_, Listener> {
        self.0.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn options(&self) -> &RunOptions {
        &self.0.options
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
