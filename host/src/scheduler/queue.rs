//! A bounded queue between many askers and a few worker threads, which take batches out of it.
//!
//! Owns the order (by priority, then first come, first served), the bound, and which requests leave
//! together. It never blocks the one who pushes, and never runs anything.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::limits::{BatchRules, Decision};

/// What waits in the queue.
pub(super) trait Waiting {
    /// Whether anybody still waits for it.
    fn is_wanted(&self) -> bool;
    /// How much of a batch it takes; 0 if it can share none.
    fn items(&self) -> usize;
    /// Elements of one item of it: those that may share a batch have as many.
    fn elements_of_item(&self) -> usize;
    /// Whether the two may share a batch.
    fn joins(&self, other: &Self) -> bool;
    /// Its priority, 1 the first.
    fn level(&self) -> u32;
    /// Since when it waits.
    fn arrived(&self) -> Instant;
    /// Until when it has to be started.
    fn expires(&self) -> Instant;
}

/// Why a push failed; the items are dropped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PushError {
    /// The queue's size is this.
    Full(usize),
    Closed,
}

/// Why a worker is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// There is something to take.
    Work,
    /// There has been nothing to take for as long as it wanted to wait.
    Idle,
    /// It is to end, others go on.
    Retire,
    /// It is to end, since nothing comes any more.
    Closed,
}

/// What a worker takes.
#[derive(Debug)]
pub(super) struct Taken<T> {
    /// To be run together; may be empty.
    pub(super) batch: Vec<T>,
    /// Those whose time ran out while they waited.
    pub(super) expired: Vec<T>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
    /// For those who wait for the end alone.
    closing: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    size: usize,
    rules: BatchRules,
    /// Workers that wait for an item: what goes to them does not wait.
    pullers: usize,
    /// Workers that are to end.
    retiring: usize,
    closed: bool,
}

impl<T: Waiting> Queue<T> {
    /// A queue in which `size` items may wait, beside those that a waiting worker is about to take.
    pub(super) fn new(size: usize, rules: BatchRules) -> Self {
        let state = State { items: VecDeque::new(), size, rules, pullers: 0, retiring: 0, closed: false };
        Self { state: Mutex::new(state), arrived: Condvar::new(), closing: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the bounds. What waits already stays.
    pub(super) fn set(&self, size: usize, rules: BatchRules) {
        let mut state = self.state();
        (state.size, state.rules) = (size, rules);
        drop(state);
        self.arrived.notify_all();
    }

    /// Appends items, all or none, or says at once why it cannot. Items that nobody wants take no place.
    pub(super) fn push(&self, items: impl ExactSizeIterator<Item = T>) -> Result<(), PushError> {
        let mut state = self.state();
        if state.closed {
            return Err(PushError::Closed);
        }
        let (count, room) = (items.len(), state.size + state.pullers);
        if state.items.len() + count > room {
            state.items.retain(Waiting::is_wanted);
        }
        if state.items.len() + count > room {
            return Err(PushError::Full(state.size));
        }
        for item in items {
            let ahead = state.items.iter().rev().take_while(|other| other.level() > item.level()).count();
            let at = state.items.len() - ahead;
            state.items.insert(at, item);
        }
        let wake = state.pullers.min(count);
        drop(state);
        for _ in 0..wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Waits until there is something to take, the worker is to end, or `patience` is over.
    pub(super) fn ready(&self, patience: Option<Instant>) -> Signal {
        let mut state = self.state();
        loop {
            if state.retiring > 0 {
                state.retiring -= 1;
                return Signal::Retire;
            }
            let mut until = patience;
            while state.items.front().is_some_and(|item| !item.is_wanted()) {
                state.items.pop_front();
            }
            if !state.items.is_empty() {
                match state.decide(Instant::now()) {
                    Decision::Take(_) => return Signal::Work,
                    Decision::WaitUntil(due) => until = Some(due),
                }
            } else if state.closed {
                return Signal::Closed;
            } else if patience.is_some_and(|until| until <= Instant::now()) {
                return Signal::Idle;
            }
            state.pullers += 1;
            state = match until {
                None => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let wait = due.saturating_duration_since(Instant::now());
                    self.arrived.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.pullers -= 1;
        }
    }

    /// Takes the next batch, without waiting.
    pub(super) fn take(&self) -> Taken<T> {
        let mut state = self.state();
        let now = Instant::now();
        let mut taken = Taken { batch: Vec::new(), expired: Vec::new() };
        while let Some(front) = state.items.front() {
            if front.is_wanted() && front.expires() > now {
                break;
            }
            let passed = state.items.pop_front();
            taken.expired.extend(passed.filter(Waiting::is_wanted));
        }
        if let Decision::Take(most) = state.decide(now) {
            state.take(most, now, &mut taken);
        }
        let wake = !state.items.is_empty() && state.pullers > 0;
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        taken
    }

    /// Items that wait now and that somebody wants, and since when the first of them has waited.
    pub(super) fn waiting(&self) -> (usize, Option<Instant>) {
        let state = self.state();
        let wanted = || state.items.iter().filter(|item| item.is_wanted());
        (wanted().count(), wanted().map(Waiting::arrived).min())
    }

    /// Since when the next one to be taken has waited.
    pub(super) fn front_arrived(&self) -> Option<Instant> {
        self.state().items.front().map(Waiting::arrived)
    }

    /// Asks one worker to end.
    pub(super) fn retire_one(&self) {
        self.state().retiring += 1;
        // Whoever is woken by an item passes it on with `take`.
        self.arrived.notify_all();
    }

    /// Refuses what comes from now on; what waits is still handed out.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.arrived.notify_all();
        self.closing.notify_all();
    }

    /// Puts items first that were taken and could not be run. They have had a place.
    pub(super) fn put_back(&self, items: Vec<T>) {
        let mut state = self.state();
        for item in items.into_iter().rev() {
            state.items.push_front(item);
        }
        drop(state);
        self.arrived.notify_all();
    }

    /// Waits for the queue to be closed, for a while; true if it is.
    pub(super) fn is_closed_within(&self, time: Duration) -> bool {
        let state = self.state();
        let waited = self.closing.wait_timeout_while(state, time, |state| !state.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// Takes all that waits.
    pub(super) fn take_all(&self) -> Vec<T> {
        self.state().items.drain(..).collect()
    }
}

impl<T: Waiting> State<T> {
    fn decide(&self, now: Instant) -> Decision {
        let Some(front) = self.items.front() else {
            return Decision::Take(self.rules.max_size);
        };
        let most = self.rules.most_items(front.elements_of_item());
        let alone = self.closed || front.items() == 0 || most <= 1;
        if alone || (self.rules.max_delay.is_zero() && self.rules.preferred.is_empty()) {
            return Decision::Take(most);
        }
        let joining = self.items.iter().filter(|item| item.is_wanted() && item.joins(front));
        let items = joining.map(Waiting::items).fold(0, usize::saturating_add);
        let oldest = self.items.iter().map(Waiting::arrived).min().unwrap_or(now);
        self.rules.decide(items, most, oldest, now)
    }

    /// The front, and those behind it that may join it, up to `most` items.
    fn take(&mut self, most: usize, now: Instant, taken: &mut Taken<T>) {
        let Some(front) = self.items.pop_front() else {
            return;
        };
        let mut items = front.items();
        taken.batch.push(front);
        let mut at = 0;
        while items > 0 && items < most && at < self.items.len() {
            let (Some(item), Some(front)) = (self.items.get(at), taken.batch.first()) else {
                break;
            };
            if !item.is_wanted() {
                self.items.remove(at);
            } else if item.expires() <= now {
                taken.expired.extend(self.items.remove(at));
            } else if item.joins(front) && items.saturating_add(item.items()) <= most {
                items += item.items();
                taken.batch.extend(self.items.remove(at));
            } else {
                at += 1;
            }
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
