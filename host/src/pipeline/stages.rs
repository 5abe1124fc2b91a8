//! Where a request's time went.
//!
//! Owns the names of the stages and the account of one request.

use std::time::Duration;

/// A stage of a request that is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Waiting for a version that is loaded on demand.
    Load,
    /// The plugin turns the body into tensors.
    Preprocess,
    /// Waiting for a worker.
    Queue,
    /// The model runs.
    Infer,
    /// The plugin turns tensors into the answer.
    Postprocess,
}

impl Stage {
    /// All of them, in a request's order.
    pub const ALL: [Self; 5] = [Self::Load, Self::Preprocess, Self::Queue, Self::Infer, Self::Postprocess];

    /// Its name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Preprocess => "preprocess",
            Self::Queue => "queue",
            Self::Infer => "infer",
            Self::Postprocess => "postprocess",
        }
    }
}

/// The account of one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct StageTimes {
    wall: [Option<Duration>; 5],
    plugin_cpu: Duration,
}

impl StageTimes {
    /// Notes how long a stage took.
    pub fn set(&mut self, stage: Stage, took: Duration) {
        self.wall[stage as usize] = Some(took);
    }

    /// How long a stage took; `None` if it did not happen.
    pub fn get(&self, stage: Stage) -> Option<Duration> {
        self.wall[stage as usize]
    }

    /// Notes what a plugin's call cost.
    pub fn add_plugin(&mut self, cpu: Duration) {
        self.plugin_cpu += cpu;
    }

    /// Running time of the plugin in both of its halves.
    pub fn plugin_cpu(&self) -> Duration {
        self.plugin_cpu
    }
}
