//! One rate: governor's generic cell rate algorithm, over a state that others' use can be added to.
//!
//! Owns the arithmetic of sharing a rate, as times: a rate of 100/s costs 10 ms for each request, and how far the cost of
//! all that was used is ahead of the clock says how much is left. What others have used moves that forward, also further
//! than any request of this node could: then nothing is let in until the clock has caught up.

use std::num::NonZeroU32;
use std::sync::atomic::{
    AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::SeqCst,
};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock, Reference as _};
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

/// How far a cell may be ahead, in times of its whole burst, and beyond that: what more of others' use there may be is
/// forgiven, so that a wrong word from outside ends by itself.
const MOST_BURSTS: u32 = 8;
const MOST_BEYOND: Duration = Duration::from_secs(10);
/// And never more than this, so that no sum of times can be too large.
const MOST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// governor's state: the time at which all that was used will have been paid for, in nanoseconds since the beginning.
#[derive(Clone, Debug, Default)]
struct PaidAt(Arc<AtomicU64>);

impl StateStore for PaidAt {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut before = self.0.load(Acquire);
        loop {
            let (decision, next) = decide((before > 0).then(|| before.into()))?;
            match self.0.compare_exchange_weak(before, next.into(), AcqRel, Acquire) {
                Ok(_) => return Ok(decision),
                Err(now) => before = now,
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cell<C: Clock = DefaultClock> {
    limiter: RateLimiter<NotKeyed, PaidAt, C, StateInformationMiddleware>,
    paid_at: PaidAt,
    quota: Quota,
    clock: C,
    made: C::Instant,
    /// The cost of all that this node has let in, in nanoseconds, above where it began.
    used: AtomicU64,
    /// As much of it as the others know, in microseconds.
    told: AtomicU64,
}

/// What this node says about its use of a cell. Costs are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::auth) struct Use {
    /// Of everything until now, above where it began.
    pub(in crate::auth) used: u64,
    /// Of what the others knew of it last.
    pub(in crate::auth) told: u64,
    /// How far the cell may be ahead.
    pub(in crate::auth) most: u64,
    /// When this was so, in nanoseconds since the cell was made.
    at: u64,
}

impl<C: Clock + Clone> Cell<C> {
    pub(super) fn new(quota: Quota, clock: C) -> Self {
        let (made, paid_at) = (clock.now(), PaidAt::default());
        let limiter = RateLimiter::new(quota, paid_at.clone(), clock.clone());
        let begin = microseconds_of_this_process();
        let (used, told) = (AtomicU64::new(begin * 1000), AtomicU64::new(begin));
        Self { limiter, paid_at, quota, clock, made, used, told }
    }

    /// Takes so many at once; if they are too many, the time after which they would not be, or `None` if that is never.
    pub(super) fn take(&self, count: NonZeroU32) -> Result<StateSnapshot, Option<Duration>> {
        match self.limiter.check_n(count) {
            Ok(Ok(state)) => {
                let cost = nanoseconds(self.quota.replenish_interval()).saturating_mul(count.get().into());
                self.used.fetch_add(cost, SeqCst);
                Ok(state)
            }
            Ok(Err(not_until)) => Err(Some(not_until.wait_time_from(self.clock.now()))),
            Err(_) => Err(None),
        }
    }

    pub(super) fn quota(&self) -> Quota {
        self.quota
    }

    /// Whether all that was used is paid for.
    pub(super) fn is_as_new(&self) -> bool {
        self.paid_at.0.load(Acquire) <= self.now()
    }

    /// What there is to say.
    pub(super) fn own_use(&self) -> Use {
        let bursts = self.quota.burst_size_replenished_in().saturating_mul(MOST_BURSTS);
        let most = bursts.saturating_add(MOST_BEYOND).min(MOST);
        Use {
            at: self.now(),
            used: self.used.load(SeqCst) / 1000,
            told: self.told.load(Relaxed),
            most: nanoseconds(most) / 1000,
        }
    }

    /// It was said, and all nodes together are ahead by so many microseconds.
    pub(super) fn agreed(&self, said: Use, ahead: u64) {
        self.told.store(said.used, Relaxed);
        let since = self.used.load(Relaxed).saturating_sub(said.used.saturating_mul(1000));
        let ahead = ahead.min(said.most).saturating_mul(1000).saturating_add(since);
        // From when it was said: what was used on the way was paid for on the way.
        self.paid_at.0.fetch_max(said.at.saturating_add(ahead), AcqRel);
    }

    /// What was used until now is not to be said any more: it is too long ago.
    pub(super) fn forget(&self, said: Use) {
        self.told.fetch_max(said.used, Relaxed);
    }

    fn now(&self) -> u64 {
        self.clock.now().duration_since(self.made).as_u64()
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Where the use of a new cell begins to be counted. A cell that is as new has used less than the time that has gone by, so
/// that one that takes the place of another, which was forgotten, never says less than that has said.
fn microseconds_of_this_process() -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    nanoseconds(BEGIN.get_or_init(Instant::now).elapsed()) / 1000
}
