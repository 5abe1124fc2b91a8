//! The running time of a plugin's call.
//!
//! Owns the measuring: the CPU time that the thread spends inside a call's `poll`, and the time that the
//! call waits for something of its own. Waiting for the CPU runtime after a yield does not count, nor does
//! what the system gives to other threads: a busy neighbour cannot push a well-behaved plugin over its
//! limit.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Sleep;

/// Nanoseconds that one call has run, readable by the thread that runs it.
#[derive(Debug, Default)]
pub(super) struct CpuClock {
    /// Of the call so far, without the poll that is under way.
    spent: AtomicU64,
    /// The thread's CPU time when the poll under way began; 0 if none is.
    entered: AtomicU64,
    /// The guest was stopped to let others run.
    yielded: AtomicBool,
}

impl CpuClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
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
        self.yielded.store(false, Relaxed);
        self.entered.store(thread_time(), Relaxed);
    }

    fn leave(&self) {
        let entered = self.entered.swap(0, Relaxed);
        self.spent.fetch_add(thread_time().saturating_sub(entered), Relaxed);
    }

    fn add_wait(&self, waited: Duration) {
        self.spent.fetch_add(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The call's time so far. Within a poll, to be asked by the thread that polls.
    pub(super) fn spent(&self) -> Duration {
        let entered = self.entered.load(Relaxed);
        let running = if entered == 0 { 0 } else { thread_time().saturating_sub(entered) };
        Duration::from_nanos(self.spent.load(Relaxed).saturating_add(running))
    }
}

/// Nanoseconds of CPU time that this thread has had; never 0.
fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds).max(1)
}

/// The call waited for something until its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WaitedTooLong;

/// A future whose time is counted on a clock: the CPU time inside `poll`, and the time that it waits for
/// something of its own, such as a WASI timer. A yield to other calls is no wait.
pub(super) struct Metered<F> {
    inner: Pin<Box<F>>,
    clock: Arc<CpuClock>,
    limit: Duration,
    wait: Option<(Instant, Pin<Box<Sleep>>)>,
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
        if let Some((since, _)) = this.wait.take() {
            this.clock.add_wait(since.elapsed());
        }
        this.clock.enter();
        let outcome = this.inner.as_mut().poll(context);
        this.clock.leave();
        if let Poll::Ready(outcome) = outcome {
            return Poll::Ready(Ok(outcome));
        }
        if this.clock.yielded.load(Relaxed) {
            return Poll::Pending;
        }
        let left = this.limit.saturating_sub(this.clock.spent());
        let (_, sleep) = this.wait.insert((Instant::now(), Box::pin(tokio::time::sleep(left))));
        sleep.as_mut().poll(context).map(|()| Err(WaitedTooLong))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burn(time: Duration) {
        let until = thread_time() + u64::try_from(time.as_nanos()).unwrap();
        while thread_time() < until {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn only_time_of_the_thread_inside_of_poll_counts() {
        let clock = CpuClock::new();
        clock.enter();
        burn(Duration::from_millis(5));
        assert!(clock.spent() >= Duration::from_millis(5));
        clock.leave();
        let spent = clock.spent();
        assert!(spent >= Duration::from_millis(5));
        burn(Duration::from_millis(5));
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
