//! Where a request's time went.
//!
//! Owns the names of the stages and the account of one request.

use std::time::Duration;

/// A stage of a request that is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Waiting for a version that is loaded on demand.
    Load,
    /// Looking for a remembered answer, waiting for one that is being computed for another request, and
    /// remembering this one.
    Recall,
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
    pub const ALL: [Self; 6] =
        [Self::Load, Self::Recall, Self::Preprocess, Self::Queue, Self::Infer, Self::Postprocess];

    /// Its name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Recall => "recall",
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
    wall: [Option<Duration>; Stage::ALL.len()],
    plugin_cpu: Duration,
}

impl StageTimes {
    /// Notes how long a stage took.
    pub fn set(&mut self, stage: Stage, took: Duration) {
        self.wall[stage as usize] = Some(took);
    }

    /// Adds to how long a stage took.
    pub fn add(&mut self, stage: Stage, took: Duration) {
        let place = &mut self.wall[stage as usize];
        *place = Some(place.unwrap_or_default() + took);
    }

    /// Adds an account of a part of the request.
    pub fn add_all(&mut self, part: &Self) {
        for stage in Stage::ALL {
            part.get(stage).into_iter().for_each(|took| self.add(stage, took));
        }
        self.plugin_cpu += part.plugin_cpu;
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
