//! What traffic did by itself or was told to do, for the log, the index and metrics.

use serde::Serialize;

/// Something that changed who serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The version that it is about.
    pub version: String,
    /// Why, in one line.
    pub reason: String,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A rollout began.
    Started,
    /// A rollout went one step up.
    SteppedUp,
    /// A canary went through all steps, or was promoted by command: it is the stable version now.
    Promoted,
    /// A canary was rolled back, by a gate or by command.
    RolledBack,
    /// Another version came before a canary had gone through all steps.
    Superseded,
    /// Blue-green switched.
    Switched,
    /// Another arm of a bandit has the largest share.
    Leading,
}

impl EventKind {
    /// The kind's name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::SteppedUp => "stepped_up",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
            Self::Superseded => "superseded",
            Self::Switched => "switched",
            Self::Leading => "leading",
        }
    }
}

impl Event {
    pub(super) fn new(kind: EventKind, version: &str, reason: impl Into<String>) -> Self {
        Self { kind, version: version.to_owned(), reason: reason.into() }
    }
}
