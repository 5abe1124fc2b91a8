//! A bounded queue between many askers and a few worker threads.
//!
//! Owns the order (first come, first served) and the bound. It never blocks the one who pushes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Why a push failed; the item is dropped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PushError {
    Full,
    Closed,
}

#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    /// Workers that wait for an item: what goes to them does not wait.
    pullers: usize,
    /// Of those who pull, how many are to be sent away.
    leaving: usize,
    size: usize,
    closed: bool,
}

impl<T> Queue<T> {
    /// A queue in which `size` items may wait, beside those that a waiting worker is about to take.
    pub(super) fn new(size: usize) -> Self {
        let state = State { items: VecDeque::new(), pullers: 0, leaving: 0, size, closed: false };
        Self { state: Mutex::new(state), arrived: Condvar::new() }
    }

    /// How many items may wait from now on. Those that wait already stay.
    pub(super) fn resize(&self, size: usize) {
        self.state().size = size;
    }

    /// Sends one of those away who pull: the next one that asks for an item gets none.
    pub(super) fn dismiss_one(&self) {
        self.state().leaving += 1;
        self.arrived.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an item, or says at once why it cannot. Items that `is_wanted` denies take no place.
    pub(super) fn push(&self, item: T, is_wanted: impl Fn(&T) -> bool) -> Result<(), PushError> {
        let mut state = self.state();
        if state.closed {
            return Err(PushError::Closed);
        }
        let room = state.size + state.pullers.saturating_sub(state.leaving);
        if state.items.len() >= room {
            state.items.retain(is_wanted);
        }
        if state.items.len() >= room {
            return Err(PushError::Full);
        }
        state.items.push_back(item);
        let wake = state.pullers > 0;
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Waits for the oldest item; `None` once the queue is closed and empty, or to be sent away.
    pub(super) fn pull(&self) -> Option<T> {
        let mut state = self.state();
        loop {
            if state.leaving > 0 && !state.closed {
                state.leaving -= 1;
                // An arrival may have woken this one alone.
                self.arrived.notify_one();
                return None;
            }
            if let Some(item) = state.items.pop_front() {
                return Some(item);
            }
            if state.closed {
                return None;
            }
            state.pullers += 1;
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.pullers -= 1;
        }
    }

    /// Items that wait now and that `is_wanted` confirms.
    pub(super) fn count(&self, is_wanted: impl Fn(&T) -> bool) -> usize {
        self.state().items.iter().filter(|item| is_wanted(item)).count()
    }

    /// Refuses what comes from now on; what waits is still handed out.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.arrived.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn it_is_bounded_and_in_order() {
        let queue = Queue::new(2);
        let push = |item| queue.push(item, |_| true);
        assert_eq!((push(1), push(2), push(3)), (Ok(()), Ok(()), Err(PushError::Full)));
        assert_eq!((queue.count(|_| true), queue.pull(), queue.pull()), (2, Some(1), Some(2)));
    }

    #[test]
    fn a_queue_of_none_hands_over_to_a_worker_that_waits() {
        let queue = Arc::new(Queue::new(0));
        assert_eq!(queue.push(1, |_| true), Err(PushError::Full));
        let puller = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.pull()
        });
        while queue.push(2, |_| true).is_err() {
            std::thread::yield_now();
        }
        assert_eq!(puller.join().unwrap(), Some(2));
    }

    #[test]
    fn what_nobody_waits_for_takes_no_place() {
        let queue = Queue::new(2);
        for item in [1, 2] {
            queue.push(item, |_| true).unwrap();
        }
        assert_eq!(queue.push(3, |&item| item != 1), Ok(()));
        assert_eq!((queue.pull(), queue.pull()), (Some(2), Some(3)));
    }

    #[test]
    fn one_is_sent_away_and_the_bound_changes() {
        let queue = Queue::new(1);
        let push = |item| queue.push(item, |_| true);
        assert_eq!((push(1), push(2)), (Ok(()), Err(PushError::Full)));
        queue.resize(2);
        assert_eq!((push(2), push(3)), (Ok(()), Err(PushError::Full)));
        queue.dismiss_one();
        assert_eq!((queue.pull(), queue.pull(), queue.pull()), (None, Some(1), Some(2)));
        // Of two who wait one goes, and the other one gets what comes.
        let queue = Arc::new(Queue::new(8));
        let pullers: Vec<_> = (0..2)
            .map(|_| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || std::iter::from_fn(|| queue.pull()).count())
            })
            .collect();
        queue.dismiss_one();
        queue.push(1, |_| true).unwrap();
        while queue.count(|_| true) > 0 {
            std::thread::yield_now();
        }
        queue.close();
        let pulled: usize = pullers.into_iter().map(|puller| puller.join().unwrap()).sum();
        assert_eq!(pulled, 1);
    }

    #[test]
    fn closing_hands_out_what_waits_and_wakes_the_rest() {
        let queue = Arc::new(Queue::new(8));
        queue.push(1, |_| true).unwrap();
        let pullers: Vec<_> = (0..3)
            .map(|_| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || std::iter::from_fn(|| queue.pull()).count())
            })
            .collect();
        queue.close();
        let pulled: usize = pullers.into_iter().map(|puller| puller.join().unwrap()).sum();
        assert_eq!(pulled, 1);
        assert_eq!(queue.push(2, |_| true), Err(PushError::Closed));
    }
}
