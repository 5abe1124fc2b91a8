//! The state of one queued request, shared by the one who waits and the one who works.
//!
//! Owns the race between "a worker starts it" and "its asker gives up": exactly one of them wins. An asker
//! that leaves a run as the last one ends it.

use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::model::RunStop;
use crate::telemetry::ComputeSeries;

/// A run, as those see it who wait for it.
#[derive(Debug)]
pub(super) struct Running {
    waiting: AtomicUsize,
    stop: RunStop,
    metrics: Arc<ComputeSeries>,
}

impl Running {
    /// A run that is to begin.
    ///
    /// # Errors
    /// `Internal` if ONNX Runtime has no memory for it.
    pub(super) fn new(metrics: &Arc<ComputeSeries>) -> Result<Arc<Self>, Error> {
        let (waiting, stop) = (AtomicUsize::new(0), RunStop::new()?);
        Ok(Arc::new(Self { waiting, stop, metrics: Arc::clone(metrics) }))
    }

    /// What ends the run.
    pub(super) fn stop(&self) -> &RunStop {
        &self.stop
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.waiting.load(Acquire) == 0
    }

    fn leave(&self) {
        if self.waiting.fetch_sub(1, AcqRel) == 1 {
            self.metrics.stopped.inc();
            self.stop.stop();
        }
    }
}

#[derive(Debug)]
enum State {
    Queued,
    Started(Arc<Running>),
    /// Its worker died while it ran: it waits once more, and its asker for its answer.
    Again,
    /// The asker has its answer, or has given up.
    Settled,
}

#[derive(Debug)]
struct Shared(Mutex<State>);

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The worker's side.
#[derive(Clone, Debug)]
pub(super) struct Ticket(Arc<Shared>);

impl Ticket {
    pub(super) fn new() -> (Self, Asker) {
        let shared = Arc::new(Shared(Mutex::new(State::Queued)));
        (Self(Arc::clone(&shared)), Asker(shared))
    }

    /// Enters the request into a run, or into another one than before; false if nobody waits for it any more.
    pub(super) fn start(&self, running: &Arc<Running>) -> bool {
        let mut state = self.0.state();
        if matches!(*state, State::Settled) {
            return false;
        }
        running.waiting.fetch_add(1, AcqRel);
        *state = State::Started(Arc::clone(running));
        true
    }

    /// Whether somebody still waits for a request that is to be started.
    pub(super) fn is_wanted(&self) -> bool {
        matches!(*self.0.state(), State::Queued | State::Again)
    }

    /// Has a request that was started wait once more; false if nobody waits for it any more.
    pub(super) fn wait_again(&self) -> bool {
        let mut state = self.0.state();
        let is_wanted = !matches!(*state, State::Settled);
        if is_wanted {
            *state = State::Again;
        }
        is_wanted
    }

    /// Marks a request as answered: its asker ends no run any more.
    pub(super) fn settle(&self) {
        *self.0.state() = State::Settled;
    }
}

/// The asker's side. Dropped, it gives up.
#[derive(Debug)]
pub(super) struct Asker(Arc<Shared>);

impl Asker {
    /// True if the request had not been started, and now never will be.
    pub(super) fn give_up(&self) -> bool {
        let mut state = self.0.state();
        let was_queued = matches!(*state, State::Queued);
        if was_queued {
            *state = State::Settled;
        }
        was_queued
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let before = std::mem::replace(&mut *self.0.state(), State::Settled);
        if let State::Started(running) = before {
            running.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::testing;

    #[test]
    fn either_the_worker_or_the_asker_wins() {
        let running = testing::running();
        let (ticket, asker) = Ticket::new();
        assert!(ticket.is_wanted() && ticket.start(&running) && !ticket.is_wanted());
        assert!(!asker.give_up());

        let (ticket, asker) = Ticket::new();
        assert!(asker.give_up());
        assert!(!ticket.start(&running));

        let (ticket, asker) = Ticket::new();
        drop(asker);
        assert!(!ticket.start(&running) && !ticket.is_wanted());
    }

    #[test]
    fn the_last_asker_that_leaves_ends_the_run() {
        let running = testing::running();
        let (first, first_asker) = Ticket::new();
        let (second, second_asker) = Ticket::new();
        assert!(first.start(&running) && second.start(&running));
        drop(first_asker);
        assert!(!running.is_abandoned());
        drop(second_asker);
        assert!(running.is_abandoned());
        assert_eq!(running.metrics.stopped.get(), 1);
    }

    #[test]
    fn who_was_started_once_does_not_give_up_for_waiting_again() {
        let running = testing::running();
        let (ticket, asker) = Ticket::new();
        assert!(ticket.start(&running) && ticket.wait_again() && ticket.is_wanted());
        assert!(!asker.give_up());
        assert!(ticket.start(&running) && ticket.wait_again());
        drop(asker);
        assert!(!ticket.is_wanted() && !ticket.wait_again());
        assert_eq!(running.metrics.stopped.get(), 0);
    }

    #[test]
    fn who_has_an_answer_ends_nothing() {
        let running = testing::running();
        let (ticket, asker) = Ticket::new();
        assert!(ticket.start(&running));
        ticket.settle();
        drop(asker);
        assert_eq!(running.metrics.stopped.get(), 0);
    }
}
