//! What runs a worker's model: a session in the host, or one in a process of its own.
//!
//! Owns the choice between the two, so that whoever runs a model need not know which it is.

use std::sync::Arc;
use std::time::Duration;

use super::loss::Loss;
use super::session::ChildSession;
use crate::error::Error;
use crate::model::tensor::Tensor;
use crate::model::{Device, ModelSession, RunStop, Signature};

/// See the module.
#[derive(Debug)]
pub enum Executor {
    /// In the host.
    Thread(Box<ModelSession>),
    /// In a process of its own.
    Process(Box<ChildSession>),
    /// What a test says.
    #[cfg(test)]
    Scripted(Box<super::scripted::Scripted>),
}

impl From<ModelSession> for Executor {
    fn from(session: ModelSession) -> Self {
        Self::Thread(Box::new(session))
    }
}

impl From<ChildSession> for Executor {
    fn from(session: ChildSession) -> Self {
        Self::Process(Box::new(session))
    }
}

impl Executor {
    /// What the model takes and gives.
    pub fn signature(&self) -> &Arc<Signature> {
        match self {
            Self::Thread(session) => session.signature(),
            Self::Process(session) => session.signature(),
            #[cfg(test)]
            Self::Scripted(scripted) => &scripted.signature,
        }
    }

    /// Whether a run computes on the thread that asks for it, and on no other.
    pub fn computes_here(&self) -> bool {
        matches!(self, Self::Thread(session) if session.threads() == 1) && !self.is_on_gpu()
    }

    /// Whether the model runs on a GPU.
    pub fn is_on_gpu(&self) -> bool {
        match self {
            Self::Thread(session) => session.placement().device != Device::Cpu,
            Self::Process(session) => session.is_on_gpu(),
            #[cfg(test)]
            Self::Scripted(_) => false,
        }
    }

    /// What the last run took of processor time, where that is not this thread's.
    pub fn spent(&self) -> Option<Duration> {
        match self {
            Self::Process(session) => session.spent(),
            _ => None,
        }
    }

    /// The process that it runs in, if that is not the host.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Process(session) => Some(session.pid()),
            _ => None,
        }
    }

    /// Runs the model on inputs in its own order, and copies out the outputs at the positions asked for.
    ///
    /// # Errors
    /// As [`run_batch`](Self::run_batch).
    pub fn run(&mut self, inputs: &[Tensor], wanted: &[usize]) -> Result<Vec<Tensor>, Error> {
        self.run_batch(&[inputs], wanted, None)
    }

    /// Runs the model once for several requests; see [`ModelSession::run_batch`].
    ///
    /// # Errors
    /// `InvalidArgument` if ONNX Runtime refuses the inputs, `Unavailable` if the process is [`lost`](Self::lost),
    /// `Internal` if it fails otherwise.
    pub fn run_batch(
        &mut self,
        requests: &[&[Tensor]],
        wanted: &[usize],
        stop: Option<&RunStop>,
    ) -> Result<Vec<Tensor>, Error> {
        match self {
            Self::Thread(session) => session.run_batch(requests, wanted, stop),
            Self::Process(session) => session.run_batch(requests, wanted, stop),
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.run_batch(requests, wanted),
        }
    }

    /// Makes sure, between runs, that a process is there.
    pub fn check(&mut self) {
        match self {
            Self::Thread(_) => {}
            Self::Process(session) => session.check(),
            #[cfg(test)]
            Self::Scripted(_) => {}
        }
    }

    /// Why it runs nothing any more, if so. A session in the host is never lost.
    pub fn lost(&self) -> Option<&Loss> {
        match self {
            Self::Thread(_) => None,
            Self::Process(session) => session.lost(),
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.lost.as_ref(),
        }
    }
}
