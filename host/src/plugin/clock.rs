//! The running time of a plugin's call.
//!
//! Owns the measuring: the time inside a call's `poll` counts, and the time that it waits for something
//! of its own. Waiting for the CPU runtime after a yield does not: it costs a plugin nothing, and a neighbour that loops cannot push
//! a well-behaved plugin over its limit. What the operating system takes away within a `poll` does
//! count: it is close to CPU time while the machine is not overbooked.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// Nanoseconds that one instance has run, readable while it runs.
#[derive(Debug)]
pub(super) struct CpuClock {
    base: Instant,
    /// Nanoseconds of the call so far, without the poll that is under way.
    spent: AtomicU64,
    /// When the poll or the wait under way began, in nanoseconds since `base`; 0 if none is.
    entered: AtomicU64,
    /// The guest was stopped to let others run.
    yielded: AtomicBool,
}

impl CpuClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            base: Instant::now(),
            spent: AtomicU64::new(0),
            entered: AtomicU64::new(0),
            yielded: AtomicBool::new(false),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// Starts a new call at zero.
    pub(super) fn reset(&self) {
        self.spent.store(0, Relaxed);
        self.entered.store(0, Relaxed);
    }

    /// Notes that the guest yields, so that the time until its next poll is not its own.
    pub(super) fn note_yield(&self) {
        self.yielded.store(true, Relaxed);
    }

    fn enter(&self) {
        self.entered.store(self.now(), Relaxed);
    }

    fn leave(&self) {
        let entered = self.entered.swap(0, Relaxed);
        if entered == 0 {
            return;
        }
        self.spent.fetch_add(self.now().saturating_sub(entered), Relaxed);
    }

    /// The call's time so far.
    pub(super) fn spent(&self) -> Duration {
        let entered = self.entered.load(Relaxed);
        let running = if entered == 0 { 0 } else { self.now().saturating_sub(entered) };
        Duration::from_nanos(self.spent.load(Relaxed).saturating_add(running))
    }
}

/// The call waited for something until its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WaitedTooLong;

/// A future whose time is counted on a clock: the time inside `poll`, and the time that it waits for
/// something of its own, such as a WASI timer. A yield to other calls is no wait.
pub(super) struct Metered<F> {
    inner: Pin<Box<F>>,
    clock: Arc<CpuClock>,
    limit: Duration,
    wait: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Metered<F> {
    pub(super) fn new(inner: F, clock: Arc<CpuClock>, limit: Duration) -> Self {
        Self { inner: Box::pin(inner), clock, limit, wait: None }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = Result<F::Output, WaitedTooLong>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.clock.yielded.store(false, Relaxed);
        if this.wait.is_none() {
            this.clock.enter();
        }
        if let Poll::Ready(outcome) = this.inner.as_mut().poll(context) {
            this.clock.leave();
            return Poll::Ready(Ok(outcome));
        }
        if this.clock.yielded.load(Relaxed) {
            this.clock.leave();
            this.wait = None;
            return Poll::Pending;
        }
        // It waits: the clock runs on until it yields, ends, or has no time left.
        let left = this.limit.saturating_sub(this.clock.spent());
        let wait = this.wait.get_or_insert_with(|| Box::pin(tokio::time::sleep(left)));
        wait.as_mut().poll(context).map(|()| {
            this.clock.leave();
            Err(WaitedTooLong)
        })
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
    #[tokio::test(start_paused = true)]
    async fn a_call_that_waits_for_itself_runs_out_of_time() {
        let clock = CpuClock::new();
        let limit = Duration::from_millis(500);
        let waiting = Metered::new(std::future::pending::<()>(), Arc::clone(&clock), limit);
        assert_eq!(waiting.await, Err(WaitedTooLong));
        let ready = Metered::new(async { 7 }, clock, limit);
        assert_eq!(ready.await, Ok(7));
    }
}
