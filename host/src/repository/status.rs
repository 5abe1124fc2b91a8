//! How a version stands, for everybody who is told of it.
//!
//! Owns the states and their names, and the reasons of failures. It decides nothing: the reconciler does.

use std::sync::{Arc, Weak};
use std::time::SystemTime;

use super::door::Door;
use super::found::Found;
use crate::pipeline::Generation;

/// Why a version's content does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadFailure {
    /// What is wrong, and the remedy.
    pub reason: String,
    /// When this content failed first.
    pub since: SystemTime,
    /// When it is tried again, if it is.
    pub next_retry: Option<SystemTime>,
}

impl LoadFailure {
    /// One that has just happened, and is not tried again.
    pub fn now(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), since: SystemTime::now(), next_retry: None }
    }
}

/// How far a load has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadStage {
    /// Its files are read and checked.
    Validating,
    /// Its sessions are opened and its plugin is compiled.
    Loading,
    /// It answers its first requests, which nobody but the host sends.
    Warming,
}

impl LoadStage {
    /// Its name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validating => "validating",
            Self::Loading => "loading",
            Self::Warming => "warming",
        }
    }
}

/// A generation that new requests no longer reach.
#[derive(Clone, Debug)]
pub struct Draining {
    /// When it was let go.
    pub since: SystemTime,
    /// Bytes that it is taken to use until it is freed.
    pub memory: u64,
    generation: Weak<Generation>,
}

impl Draining {
    pub(super) fn new(generation: &Arc<Generation>) -> Self {
        Self { since: SystemTime::now(), memory: generation.memory(), generation: Arc::downgrade(generation) }
    }

    pub(super) fn is_freed(&self) -> bool {
        self.generation.strong_count() == 0
    }

    /// Requests that still use it. The keeper holds it once itself.
    pub fn requests(&self) -> usize {
        self.generation.strong_count().saturating_sub(1)
    }
}

/// How a version stands.
#[derive(Clone, Debug)]
pub enum VersionStatus {
    /// It is there; its files are not still yet, or others load before it.
    Discovered,
    /// It is on its way.
    Loading(LoadStage),
    /// It serves.
    Ready(Arc<Generation>),
    /// An earlier content of it serves; the present one could not replace it.
    Outdated(Arc<Generation>, LoadFailure),
    /// It is loaded for whoever asks; why what `model.yaml` says now is not in effect, if it is not.
    Standby(Arc<Door>, Option<LoadFailure>),
    /// It was let go; the requests that it has are still answered.
    Draining(Draining),
    /// It is out of memory, and is not loaded of its own accord; why and since when.
    Unloaded(LoadFailure),
    /// It does not serve.
    Failed(LoadFailure),
}

impl VersionStatus {
    /// What answers requests, if anything does.
    pub fn found(&self) -> Option<Found> {
        match self {
            Self::Standby(door, _) => Some(Found::Standby(Arc::clone(door))),
            _ => self.generation().map(|generation| Found::Loaded(Arc::clone(generation))),
        }
    }

    /// Whether requests are answered, be it after a load.
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_) | Self::Outdated(..) | Self::Standby(..))
    }

    /// What is in memory and serves, if anything is.
    pub const fn generation(&self) -> Option<&Arc<Generation>> {
        match self {
            Self::Ready(generation) | Self::Outdated(generation, _) => Some(generation),
            Self::Discovered
            | Self::Loading(_)
            | Self::Standby(..)
            | Self::Draining(_)
            | Self::Unloaded(_)
            | Self::Failed(_) => None,
        }
    }

    /// Why its present content does not serve, where there is a reason beside its state.
    pub const fn failure(&self) -> Option<&LoadFailure> {
        match self {
            Self::Outdated(_, failure) | Self::Unloaded(failure) | Self::Failed(failure) => Some(failure),
            Self::Standby(_, failure) => failure.as_ref(),
            Self::Discovered | Self::Loading(_) | Self::Ready(_) | Self::Draining(_) => None,
        }
    }

    /// Its name in metrics, logs and the index.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Loading(stage) => stage.as_str(),
            Self::Ready(_) => "ready",
            Self::Outdated(..) => "outdated",
            Self::Standby(..) => "standby",
            Self::Draining(_) => "draining",
            Self::Unloaded(_) => "unloaded",
            Self::Failed(_) => "failed",
        }
    }
}
