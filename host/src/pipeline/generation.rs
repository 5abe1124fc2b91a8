//! A version of a model with its plugin and settings, ready to serve.
//!
//! Owns nothing that changes: a request pins one with an `Arc`, and whatever is swapped meanwhile, it
//! is answered by this one from the first stage to the last.

use std::sync::Arc;

use crate::model::Signature;
use crate::plugin::Plugin;
use crate::scheduler::Scheduler;
use crate::telemetry::GenerationMetrics;

/// What a generation is made of.
#[derive(Debug)]
pub struct GenerationParts {
    /// The model's name.
    pub model: String,
    /// The version's name.
    pub version: String,
    /// What the model takes and gives.
    pub signature: Arc<Signature>,
    /// Its queue and workers.
    pub scheduler: Scheduler,
    /// Its plugin, if it has one.
    pub plugin: Option<Plugin>,
    /// Where it counts.
    pub metrics: GenerationMetrics,
}

/// See the module.
#[derive(Debug)]
pub struct Generation(GenerationParts);

impl Generation {
    /// A generation that is ready to serve.
    pub fn new(parts: GenerationParts) -> Self {
        Self(parts)
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.0.model
    }

    /// The version's name.
    pub fn version(&self) -> &str {
        &self.0.version
    }

    /// What the model takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.0.signature
    }

    /// Its plugin, if it has one.
    pub fn plugin(&self) -> Option<&Plugin> {
        self.0.plugin.as_ref()
    }

    /// Where it counts.
    pub fn metrics(&self) -> &GenerationMetrics {
        &self.0.metrics
    }

    /// Brings its metrics up to how queue, workers and instances stand now.
    pub fn observe(&self) {
        let pool = self.plugin().map(Plugin::status);
        self.metrics().observe(self.scheduler().waiting(), self.scheduler().workers(), pool);
    }

    /// Its queue and workers.
    pub fn scheduler(&self) -> &Scheduler {
        &self.0.scheduler
    }
}
