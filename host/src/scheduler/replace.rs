//! Workers' processes that died: what they ran, who comes in their place, and when nobody does.
//!
//! Owns the doing of what `crashes` decides. A worker's thread replaces its own process; other workers go on
//! meanwhile, with what that process had begun.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::crashes::Next;
use super::job::Job;
use super::worker::Shared;
use crate::error::{Error, ErrorCode};
use crate::isolation::Executor;
use crate::telemetry::ComputeSeries;

/// The processes that live.
#[derive(Clone, Debug, Default)]
pub(super) struct Processes(Arc<Mutex<BTreeSet<u32>>>);

impl Processes {
    fn all(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Their numbers.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.all().iter().copied().collect()
    }

    /// Counts a session's process for as long as the session is held.
    pub(super) fn hold(&self, session: Executor, metrics: &Arc<ComputeSeries>) -> Held {
        let pid = session.pid();
        if let Some(pid) = pid {
            self.all().insert(pid);
            metrics.processes.inc();
        }
        Held { session, pid, processes: self.clone(), metrics: Arc::clone(metrics) }
    }
}

/// A worker's session.
pub(super) struct Held {
    session: Executor,
    pid: Option<u32>,
    processes: Processes,
    metrics: Arc<ComputeSeries>,
}

impl Deref for Held {
    type Target = Executor;

    fn deref(&self) -> &Executor {
        &self.session
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Executor {
        &mut self.session
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            self.processes.all().remove(&pid);
            self.metrics.processes.dec();
        }
    }
}

impl Shared {
    /// Gives back what a worker could not answer, and goes on with the worker, or with another in its place.
    pub(super) fn after_run(self: &Arc<Self>, held: Held, unanswered: Vec<Job>) -> Option<Held> {
        if held.lost().is_none() {
            if held.pid.is_some() {
                self.crashes.ran();
            }
            return Some(held);
        }
        if !unanswered.is_empty() {
            self.metrics.retried.inc();
            self.queue.put_back(unanswered);
        }
        self.revive(held)
    }

    /// The same session, or another in its place if its process has died. Without one, the worker is to end.
    pub(super) fn revive(self: &Arc<Self>, held: Held) -> Option<Held> {
        let Some(loss) = held.lost().cloned() else {
            return Some(held);
        };
        let pid = held.pid;
        drop(held);
        self.metrics.lost(loss.kind);
        let (mut reason, mut kind) = (loss.reason, Some(loss.kind));
        loop {
            match self.crashes.died(Instant::now(), kind) {
                Next::GiveUp(count) => {
                    self.give_up(&format!("{count}; the last one: {reason}"));
                    return self.leave();
                }
                Next::Replace(wait) => {
                    let wait_ms = wait.as_secs_f64() * 1e3;
                    tracing::warn!(model = self.model, pid, reason, wait_ms, "a worker is replaced");
                    if !self.may_go_on(wait) {
                        return self.leave();
                    }
                }
            }
            match self.open_session() {
                Ok(session) => {
                    let (pid, model) = (session.pid(), self.model.as_str());
                    tracing::info!(model, pid, "a worker serves in the place of one that died");
                    return Some(self.processes.hold(session, &self.metrics));
                }
                Err(error) => {
                    error.kind.inspect(|kind| self.metrics.lost(*kind));
                    (reason, kind) = (format!("it cannot be replaced: {}", error.reason), error.kind);
                }
            }
        }
    }

    /// Waits; false if there is nothing left to do afterwards.
    fn may_go_on(&self, wait: Duration) -> bool {
        let is_closed = self.queue.is_closed_within(wait);
        self.given_up.get().is_none() && (!is_closed || self.queue.waiting().0 > 0)
    }

    /// Nothing is run any more; whoever can is told why.
    fn give_up(&self, reason: &str) {
        if self.given_up.set(reason.to_owned()).is_ok() {
            tracing::error!(model = self.model, reason, "the version is given up");
        }
        self.queue.close();
        self.on_given_up.notify_one();
    }

    /// A worker ends without another in its place. The last one answers what waits.
    fn leave(&self) -> Option<Held> {
        let before = self.workers.fetch_update(Relaxed, Relaxed, |workers| workers.checked_sub(1));
        if before.is_ok_and(|before| before <= 1) || self.given_up.get().is_some() {
            let error = self.unavailable();
            let now = Instant::now();
            self.queue.take_all().into_iter().for_each(|job| job.answer(Err(error.clone()), now));
        }
        None
    }

    /// What a request is told when nothing is run any more.
    pub(super) fn unavailable(&self) -> Error {
        let model = &self.model;
        let message = match self.given_up.get() {
            Some(reason) => format!("model '{model}' is not ready: {reason}"),
            None => format!("model '{model}' is being unloaded"),
        };
        Error::new(ErrorCode::Unavailable, message)
    }
}
