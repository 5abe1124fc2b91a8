//! The state of one queued request, shared by the one who waits and the one who works.
//!
//! Owns the race between "a worker starts it" and "its asker gives up": exactly one of them wins.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::AcqRel, Ordering::Acquire};

const QUEUED: u8 = 0;
const STARTED: u8 = 1;
const GIVEN_UP: u8 = 2;

/// The worker's side.
#[derive(Clone, Debug)]
pub(super) struct Ticket(Arc<AtomicU8>);

impl Ticket {
    pub(super) fn new() -> (Self, Asker) {
        let state = Arc::new(AtomicU8::new(QUEUED));
        (Self(Arc::clone(&state)), Asker(state))
    }

    /// True for the one worker that may run the request; false if nobody waits for it any more.
    pub(super) fn start(&self) -> bool {
        self.0.compare_exchange(QUEUED, STARTED, AcqRel, Acquire).is_ok()
    }
}

impl Ticket {
    /// Whether somebody still waits for a request that has not been started.
    pub(super) fn is_wanted(&self) -> bool {
        self.0.load(Acquire) == QUEUED
    }
}

/// The asker's side. Dropped, it gives up.
#[derive(Debug)]
pub(super) struct Asker(Arc<AtomicU8>);

impl Asker {
    /// True if the request had not been started, and now never will be.
    pub(super) fn give_up(&self) -> bool {
        self.0.compare_exchange(QUEUED, GIVEN_UP, AcqRel, Acquire).is_ok()
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_the_worker_or_the_asker_wins() {
        let (ticket, asker) = Ticket::new();
        assert!(ticket.start());
        assert!(!asker.give_up());

        let (ticket, asker) = Ticket::new();
        assert!(asker.give_up());
        assert!(!ticket.start());

        let (ticket, asker) = Ticket::new();
        drop(asker);
        assert!(!ticket.start());
    }
}
