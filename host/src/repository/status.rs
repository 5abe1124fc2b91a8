//! How a version stands, for everybody who is told of it.
//!
//! Owns the states and the reasons of failures. It decides nothing: the reconciler does.

use std::sync::Arc;
use std::time::SystemTime;

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

/// How a version stands.
#[derive(Clone, Debug)]
pub enum VersionStatus {
    /// Its files are not still yet, or it is being read, compiled and warmed up.
    Loading,
    /// It serves.
    Ready(Arc<Generation>),
    /// An earlier content of it serves; the present one could not replace it.
    Outdated(Arc<Generation>, LoadFailure),
    /// It does not serve.
    Failed(LoadFailure),
}

impl VersionStatus {
    /// What serves, if anything does.
    pub const fn generation(&self) -> Option<&Arc<Generation>> {
        match self {
            Self::Ready(generation) | Self::Outdated(generation, _) => Some(generation),
            Self::Loading | Self::Failed(_) => None,
        }
    }

    /// How its present content failed, if it did.
    pub const fn failure(&self) -> Option<&LoadFailure> {
        match self {
            Self::Outdated(_, failure) | Self::Failed(failure) => Some(failure),
            Self::Loading | Self::Ready(_) => None,
        }
    }

    /// Its name in metrics and logs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Ready(_) => "ready",
            Self::Outdated(..) => "outdated",
            Self::Failed(_) => "failed",
        }
    }
}
