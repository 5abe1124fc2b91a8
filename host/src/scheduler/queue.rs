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
    size: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    /// A queue of at most `size` items (at least one).
    pub(super) fn new(size: usize) -> Self {
        let state = State { items: VecDeque::new(), closed: false };
        Self { state: Mutex::new(state), arrived: Condvar::new(), size: size.max(1) }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an item, or says at once why it cannot.
    pub(super) fn push(&self, item: T) -> Result<(), PushError> {
        let mut state = self.state();
        if state.closed {
            return Err(PushError::Closed);
        }
        if state.items.len() >= self.size {
            return Err(PushError::Full);
        }
        state.items.push_back(item);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for the oldest item; `None` once the queue is closed and empty.
    pub(super) fn pull(&self) -> Option<T> {
        let mut state = self.state();
        loop {
            if let Some(item) = state.items.pop_front() {
                return Some(item);
            }
            if state.closed {
                return None;
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Items that wait now.
    pub(super) fn len(&self) -> usize {
        self.state().items.len()
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
        assert_eq!((queue.push(1), queue.push(2), queue.push(3)), (Ok(()), Ok(()), Err(PushError::Full)));
        assert_eq!((queue.len(), queue.pull(), queue.pull()), (2, Some(1), Some(2)));
    }

    #[test]
    fn closing_hands_out_what_waits_and_wakes_the_rest() {
        let queue = Arc::new(Queue::new(8));
        queue.push(1).unwrap();
        let pullers: Vec<_> = (0..3)
            .map(|_| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || std::iter::from_fn(|| queue.pull()).count())
            })
            .collect();
        queue.close();
        let pulled: usize = pullers.into_iter().map(|puller| puller.join().unwrap()).sum();
        assert_eq!(pulled, 1);
        assert_eq!(queue.push(2), Err(PushError::Closed));
    }
}
