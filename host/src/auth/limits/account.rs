//! What one caller, or one model, has used of its limits.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::time::{Duration, Instant};

use governor::Quota;
use governor::clock::DefaultClock;

use super::Standing;
use super::board;
use super::cell::Cell;
use crate::config::LimitEntry;

/// Bytes are counted in units of so many: a count has 32 bits.
const UNIT: u64 = 1 << 10;

/// The limits of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    requests: Option<Quota>,
    bytes: Option<Quota>,
    concurrent: Option<usize>,
}

impl Plan {
    pub(super) fn new(entry: &LimitEntry, max_body: usize) -> Self {
        let requests = entry.requests.and_then(|rate| {
            quota(u64::from(rate.count), rate.per, entry.burst.map_or(u64::from(rate.count), u64::from))
        });
        let bytes = entry.bytes.and_then(|rate| {
            let size = rate.size.as_u64();
            let burst = entry.burst_bytes.map_or(size.max(max_body as u64), |burst| burst.as_u64());
            quota(size.div_ceil(UNIT), rate.per, burst.div_ceil(UNIT))
        });
        Self { requests, bytes, concurrent: entry.concurrent }
    }

    pub(super) fn is_unlimited(&self) -> bool {
        self.requests.is_none() && self.bytes.is_none() && self.concurrent.is_none()
    }
}

/// A burst that would take over a hundred years to come back is as large as what does: governor's times have 64 bits.
fn quota(count: u64, per: Duration, burst: u64) -> Option<Quota> {
    let nanos = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX).checked_div(count)?.max(1);
    let burst = burst.min(u64::MAX / 4 / nanos);
    let burst = NonZeroU32::new(u32::try_from(burst).unwrap_or(u32::MAX))?;
    Some(Quota::with_period(Duration::from_nanos(nanos))?.allow_burst(burst))
}

/// See the module.
#[derive(Debug)]
pub(super) struct Account {
    requests: Option<Cell>,
    bytes: Option<Cell>,
    taken: AtomicUsize,
    most: usize,
    /// When it was last looked at, in milliseconds since `made`.
    touched: AtomicU64,
    made: Instant,
    /// After so long without a request it is as if it were new.
    refill: Duration,
    /// Where it is told what other nodes have used; `None` if this node counts for itself.
    shared: Option<board::Place>,
}

impl Account {
    pub(super) fn new(plan: &Plan, clock: &DefaultClock, shared: Option<board::Place>) -> Self {
        let cell = |quota: Quota| Cell::new(quota, clock.clone());
        let full =
            |quota: &Option<Quota>| quota.map_or(Duration::ZERO, |quota| quota.burst_size_replenished_in());
        Self {
            requests: plan.requests.map(cell),
            bytes: plan.bytes.map(cell),
            taken: AtomicUsize::new(0),
            most: plan.concurrent.unwrap_or(usize::MAX),
            touched: AtomicU64::new(0),
            made: Instant::now(),
            refill: full(&plan.requests).max(full(&plan.bytes)),
            shared,
        }
    }

    /// Counts a request; if it is one too many, the time after which it would not be.
    pub(super) fn request(self: &Arc<Self>) -> Result<Option<Standing>, (Duration, Standing)> {
        self.touch();
        let Some(cell) = &self.requests else {
            return Ok(None);
        };
        let asked = cell.take(board::ONE);
        self.list();
        match asked {
            Ok(state) => Ok(Some(standing(state.quota(), state.remaining_burst_capacity()))),
            Err(wait) => Err((wait.unwrap_or_default(), standing(cell.quota(), 0))),
        }
    }

    /// Counts bytes; if they are too many, the time after which they would not be, or `None` if that is never.
    pub(super) fn bytes(self: &Arc<Self>, bytes: usize) -> Result<(), Option<Duration>> {
        self.touch();
        let units = u32::try_from((bytes as u64).div_ceil(UNIT)).unwrap_or(u32::MAX);
        let (Some(cell), Some(units)) = (&self.bytes, NonZeroU32::new(units)) else {
            return Ok(());
        };
        let asked = cell.take(units);
        self.list();
        asked.map(drop)
    }

    /// Takes one of the places for requests at a time.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place> {
        self.touch();
        let more = |taken: usize| (taken < self.most).then_some(taken + 1);
        self.taken.fetch_update(AcqRel, Acquire, more).ok()?;
        Some(Place(Arc::clone(self)))
    }

    /// Whether a new account would be the same.
    pub(super) fn is_as_new(&self) -> bool {
        let touched = Duration::from_millis(self.touched.load(Relaxed));
        let is_paid = |cell: &Option<Cell>| cell.as_ref().is_none_or(Cell::is_as_new);
        self.taken.load(Acquire) == 0
            && self.made.elapsed().saturating_sub(touched) > self.refill
            && is_paid(&self.requests)
            && is_paid(&self.bytes)
    }

    pub(super) fn cell(&self, of_bytes: bool) -> Option<&Cell> {
        if of_bytes { self.bytes.as_ref() } else { self.requests.as_ref() }
    }

    pub(super) fn place_on_board(&self) -> Option<&board::Place> {
        self.shared.as_ref()
    }

    /// What other nodes have used is of interest, and what this one has.
    fn list(self: &Arc<Self>) {
        if let Some(place) = &self.shared {
            place.list(self);
        }
    }

    fn touch(&self) {
        let now = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.touched.store(now, Relaxed);
    }
}

fn standing(quota: Quota, left: u32) -> Standing {
    let burst = quota.burst_size().get();
    let used = burst.saturating_sub(left);
    Standing {
        burst,
        window: quota.burst_size_replenished_in(),
        left,
        reset: quota.replenish_interval().saturating_mul(used),
    }
}

/// One of the places for requests at a time, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Account>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, AcqRel);
    }
}
