//! One sender: takes its turn, sends, waits for the answer, records it.
//!
//! Owns both loops. A closed loop sends when the last answer is there; an open loop sends when the
//! schedule says so, and measures from that moment even if no sender was free then.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::channel::{Answer, Channel, Fault};
use super::request::Prepared;
use super::schedule::{Limit, Schedule};
use super::tally::{Moments, Tally};

/// How long a sender that got no connection waits before it tries again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// What all senders of a phase share.
pub(super) struct Shared {
    /// What is sent.
    pub(super) prepared: Prepared,
    /// The most that a request may take, and in an open loop may wait before.
    pub(super) timeout: Duration,
    /// What begins earlier is not measured.
    pub(super) warmup: Duration,
    /// When to end.
    pub(super) limit: Limit,
    /// The open loop's turns; a closed loop has none.
    pub(super) turns: Option<Turns>,
    /// Set when all connections are made.
    pub(super) start: OnceLock<Instant>,
    /// Set to end early.
    pub(super) stop: Arc<AtomicBool>,
    /// Measured requests that a closed loop has begun.
    pub(super) begun: AtomicU64,
    /// Measured requests that are done, for the progress bar.
    pub(super) done: AtomicU64,
    /// Those of them that failed.
    pub(super) failed: AtomicU64,
}

/// The turns of an open loop: the pacer releases one at each intended moment, an idle sender takes
/// it and learns from its own copy of the schedule which moment that was.
pub(super) struct Turns {
    /// As many permits as moments have come and are not taken.
    pub(super) released: Semaphore,
    /// The moments not yet taken.
    pub(super) schedule: Mutex<Schedule>,
}

impl Shared {
    /// When the phase began.
    pub(super) fn start(&self) -> Instant {
        *self.start.get_or_init(Instant::now)
    }

    /// Whether to end early.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether a closed loop may send at `now`, and if so whether that is measured.
    fn may_begin(&self, now: Duration) -> Option<bool> {
        if self.is_stopped() {
            return None;
        }
        if now < self.warmup {
            return Some(false);
        }
        let may = match self.limit {
            Limit::Time(duration) => now < self.warmup.saturating_add(duration),
            Limit::Requests(limit) => self.begun.fetch_add(1, Ordering::Relaxed) < limit,
        };
        may.then_some(true)
    }

    fn count(&self, outcome: &Result<Answer, Fault>) {
        self.done.fetch_add(1, Ordering::Relaxed);
        if !outcome.as_ref().is_ok_and(|answer| answer.refusal.is_none()) {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends until the phase ends.
pub(super) async fn work(mut channel: Channel, shared: Arc<Shared>, tally: Arc<Mutex<Tally>>) {
    let before = channel.connects();
    match &shared.turns {
        None => closed_loop(&mut channel, &shared, &tally).await,
        Some(turns) => open_loop(&mut channel, &shared, turns, &tally).await,
    }
    lock(&tally).reconnects += (channel.connects() - before).saturating_sub(u64::from(before == 0));
}

async fn closed_loop(channel: &mut Channel, shared: &Shared, tally: &Mutex<Tally>) {
    let start = shared.start();
    loop {
        let sent = start.elapsed();
        let Some(is_measured) = shared.may_begin(sent) else { return };
        let outcome = channel.exchange(&shared.prepared, shared.timeout).await;
        let finished = start.elapsed();
        let got_connection = !matches!(outcome, Err(Fault::Connect(_)));
        if is_measured {
            shared.count(&outcome);
            lock(tally).record(Moments { intended: sent, sent, finished }, outcome);
        }
        if !got_connection {
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }
}

async fn open_loop(channel: &mut Channel, shared: &Shared, turns: &Turns, tally: &Mutex<Tally>) {
    let start = shared.start();
    loop {
        let Some(was_idle) = take_turn(&turns.released).await else { return };
        if shared.is_stopped() {
            return;
        }
        let Some(intended) = lock(&turns.schedule).next() else { return };
        let is_measured = intended >= shared.warmup;
        let sent = start.elapsed();
        if sent.saturating_sub(intended) > shared.timeout {
            if is_measured {
                shared.done.fetch_add(1, Ordering::Relaxed);
                shared.failed.fetch_add(1, Ordering::Relaxed);
                lock(tally).record_unsent(sent);
            }
            continue;
        }
        let outcome = channel.exchange(&shared.prepared, shared.timeout).await;
        let finished = start.elapsed();
        let got_connection = !matches!(outcome, Err(Fault::Connect(_)));
        if is_measured {
            shared.count(&outcome);
            let mut tally = lock(tally);
            tally.record_lateness(sent.saturating_sub(intended), was_idle);
            tally.record(Moments { intended, sent, finished }, outcome);
        }
        if !got_connection {
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }
}

/// Takes a turn, and says whether this sender had to wait for it (so that it was idle when the
/// moment came); `None` if there will be no more.
async fn take_turn(released: &Semaphore) -> Option<bool> {
    let was_idle = match released.try_acquire() {
        Ok(permit) => {
            permit.forget();
            false
        }
        Err(_) => {
            released.acquire().await.ok()?.forget();
            true
        }
    };
    Some(was_idle)
}

/// Locks; what a panicking thread left is good enough for counting.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
