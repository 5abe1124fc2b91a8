//! Why a worker's process is no more.
//!
//! Owns the reasons and their names in metrics and logs. It never decides what becomes of the request.

use std::fmt;
use std::time::Duration;

use super::channel::ChannelError;
use super::message::Message;
use super::process::End;
use crate::config::duration_text;
use crate::error::{Error, ErrorCode};

/// What the host has noticed.
#[derive(Debug)]
pub(super) enum Cause {
    /// The process has closed its end: it has ended.
    Ended,
    /// It did not answer for so long.
    Silent(Duration),
    /// It went on with a run that nobody waited for any more, for so long.
    Stuck(Duration),
    /// It said something that it should not have.
    Broken(String),
}

impl Cause {
    pub(super) fn system(error: std::io::Error) -> Self {
        Self::Broken(error.to_string())
    }

    pub(super) fn unexpected(message: Message) -> Self {
        Self::Broken(format!("it said {message:?} where that has no meaning"))
    }
}

impl From<ChannelError> for Cause {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Closed => Self::Ended,
            other => Self::Broken(other.to_string()),
        }
    }
}

/// The kinds of loss, as metrics name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossKind {
    /// Somebody ended it by SIGKILL: an operator, or the system when the machine lacked memory.
    Killed,
    /// It crashed, or ended by itself.
    Crashed,
    /// It used up its memory.
    Memory,
    /// It did not answer.
    Silent,
    /// It did not end a run that nobody waited for.
    Stuck,
    /// It did not keep to the protocol.
    Protocol,
}

impl LossKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Killed, Self::Crashed, Self::Memory, Self::Silent, Self::Stuck, Self::Protocol];

    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Crashed => "crashed",
            Self::Memory => "memory",
            Self::Silent => "silent",
            Self::Stuck => "stuck",
            Self::Protocol => "protocol",
        }
    }
}

/// A process that is no more, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The kind of it.
    pub kind: LossKind,
    /// In words, beginning with "process".
    pub reason: String,
}

impl Loss {
    pub(super) fn new(cause: Cause, end: End) -> Self {
        let (kind, reason) = match cause {
            Cause::Ended => {
                let kind = match &end {
                    end if end.lacked_memory => LossKind::Memory,
                    end if end.was_killed => LossKind::Killed,
                    _ => LossKind::Crashed,
                };
                (kind, format!("process {}", end.told))
            }
            Cause::Silent(time) => {
                let time = duration_text(time);
                (
                    LossKind::Silent,
                    format!("process did not answer for {time} (workers.health) and was ended"),
                )
            }
            Cause::Stuck(time) => {
                let time = duration_text(time);
                let text =
                    format!("process went on for {time} with a run that nobody waited for, and was ended");
                (LossKind::Stuck, text)
            }
            Cause::Broken(what) => (LossKind::Protocol, format!("process was ended: {what}")),
        };
        Self { kind, reason }
    }

    /// What whoever waited for the run is told.
    pub fn error(&self) -> Error {
        Error::new(ErrorCode::Unavailable, format!("the worker's {} while it ran the request", self.reason))
    }
}

/// Why a session cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct OpenError {
    /// The reason, for the operator.
    pub reason: String,
    /// How its process died, if it did.
    pub kind: Option<LossKind>,
}

impl From<String> for OpenError {
    fn from(reason: String) -> Self {
        Self { reason, kind: None }
    }
}

impl OpenError {
    /// The same, with what it is about in front.
    pub fn about(self, what: &str) -> Self {
        Self { reason: format!("{what}: {}", self.reason), ..self }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}
