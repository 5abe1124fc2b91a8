//! How a run is ended that nobody waits for any more.
//!
//! Owns the one handle that may be used from another thread than the session's. ONNX Runtime looks at it
//! between two operators: a single long one goes on to its end.

use std::sync::Arc;

use ort::session::RunOptions;

use crate::error::Error;

/// Ends the one run that it was made for. Cloning it gives another handle for the same run.
#[derive(Clone)]
pub struct RunStop(Arc<RunOptions>);

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
        let options = RunOptions::new();
        let options = options
            .map_err(|error| Error::internal(format!("a run cannot be prepared: {}", error.message())))?;
        Ok(Self(Arc::new(options)))
    }

    /// Ends the run as soon as its present operator has ended; before or after the run, nothing happens to
    /// any other.
    pub fn stop(&self) {
        if let Err(error) = self.0.terminate() {
            tracing::warn!(%error, "a run that nobody waits for cannot be ended");
        }
    }

    pub(super) fn options(&self) -> &RunOptions {
        &self.0
    }
}
