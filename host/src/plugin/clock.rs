//! The running time of a plugin's call.
//!
//! Owns the measuring: a call's future is wrapped so that only the time inside its `poll` counts.
//! Waiting for the CPU runtime therefore costs a plugin nothing, and a neighbour that loops cannot push
//! a well-behaved plugin over its limit. What the operating system takes away within a `poll` does
//! count: it is close to CPU time while the machine is not overbooked.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Nanoseconds that one instance has run, readable while it runs.
#[derive(Debug)]
pub(super) struct CpuClock {
    base: Instant,
    /// Nanoseconds of the call so far, without the poll that is under way.
    spent: AtomicU64,
    /// When the poll under way began, in nanoseconds since `base`; 0 if none is.
    entered: AtomicU64,
}

impl CpuClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { base: Instant::now(), spent: AtomicU64::new(0), entered: AtomicU64::new(0) })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// Starts a new call at zero.
    pub(super) fn reset(&self) {
        self.spent.store(0, Relaxed);
        self.entered.store(0, Relaxed);
    }

    fn enter(&self) {
        self.entered.store(self.now(), Relaxed);
    }

    fn leave(&self) {
        let entered = self.entered.swap(0, Relaxed);
        self.spent.fetch_add(self.now().saturating_sub(entered), Relaxed);
    }

    /// The call's time so far.
    pub(super) fn spent(&self) -> Duration {
        let entered = self.entered.load(Relaxed);
        let running = if entered == 0 { 0 } else { self.now().saturating_sub(entered) };
        Duration::from_nanos(self.spent.load(Relaxed).saturating_add(running))
    }
}

/// A future whose time inside `poll` is counted on a clock.
pub(super) struct Metered<F> {
    inner: Pin<Box<F>>,
    clock: Arc<CpuClock>,
}

impl<F: Future> Metered<F> {
    pub(super) fn new(inner: F, clock: Arc<CpuClock>) -> Self {
        Self { inner: Box::pin(inner), clock }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.clock.enter();
        let outcome = self.inner.as_mut().poll(context);
        self.clock.leave();
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_outside_of_poll_does_not_count() {
        let clock = CpuClock::new();
        clock.enter();
        std::thread::sleep(Duration::from_millis(5));
        clock.leave();
        let spent = clock.spent();
        assert!(spent >= Duration::from_millis(5));
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(clock.spent(), spent);
        clock.reset();
        assert_eq!(clock.spent(), Duration::ZERO);
    }
}
