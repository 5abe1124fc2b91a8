//! Calls that last for as long as their clients like, with a message now and then.
//!
//! Owns whether one is at work or merely waits. One that waits holds no seat for its connection: who opens streams and
//! says nothing keeps nobody out.

use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// After so long without a message, either way, a call merely waits.
const LIVELY: Duration = Duration::from_secs(5);

/// One such call. Cheap to clone: all clones are the same call. Whoever answers it puts one into the extensions of its
/// response.
#[derive(Clone, Debug)]
pub struct Lasting(Arc<State>);

#[derive(Debug)]
struct State {
    works: AtomicUsize,
    last: Mutex<Instant>,
}

impl Default for Lasting {
    /// A call that begins now.
    fn default() -> Self {
        Self(Arc::new(State { works: AtomicUsize::new(0), last: Mutex::new(Instant::now()) }))
    }
}

impl Lasting {
    /// The call is at work until what comes back is dropped.
    pub fn work(&self) -> Work {
        self.0.works.fetch_add(1, AcqRel);
        Work(self.clone())
    }

    /// A part of a message has come or gone.
    pub fn touch(&self) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Since when nothing has come or gone; `None` while it is at work.
    pub fn waits_since(&self) -> Option<Instant> {
        let last = *self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        (self.0.works.load(Acquire) == 0).then_some(last)
    }

    /// Whether it merely waits.
    pub(super) fn waits(&self) -> bool {
        self.waits_since().is_some_and(|since| since.elapsed() >= LIVELY)
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Work on a message of a call.
#[derive(Debug)]
pub struct Work(Lasting);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.touch();
        self.0.0.works.fetch_sub(1, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_once_nothing_has_happened_for_a_while() {
        let call = Lasting::default();
        assert!(!call.waits());
        tokio::time::advance(LIVELY).await;
        assert!(call.waits());
        let (one, two) = (call.work(), call.work());
        tokio::time::advance(LIVELY * 10).await;
        drop(one);
        assert!(!call.waits() && call.waits_since().is_none(), "it is still at work");
        drop(two);
        assert!(!call.waits(), "an answer has gone just now");
        tokio::time::advance(LIVELY).await;
        assert!(call.waits());
        call.touch();
        assert!(!call.waits());
    }
}
