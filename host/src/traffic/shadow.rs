//! The mirror of a shadow: how many copies are made.
//!
//! Owns the bounds on copies, in flight and in their part of the time, so that a slow mirror costs copies, never
//! the primary's time. Sending a copy and comparing its answer is for those who serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::arm::Arm;
use crate::config::ShadowPolicy;

/// The version that gets copies.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) arm: Arc<Arm>,
    pub(super) policy: ShadowPolicy,
    in_flight: AtomicUsize,
    pub(super) copied: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) same: AtomicU64,
    pub(super) different: AtomicU64,
    born: Instant,
    /// When the next copy may be made, in microseconds since `born`.
    rests_until: AtomicU64,
    /// The bits of a number that is not negative, which are in the order of the numbers.
    largest: AtomicU64,
}

impl Mirror {
    pub(super) fn new(arm: Arc<Arm>, policy: ShadowPolicy) -> Self {
        Self {
            arm,
            policy,
            in_flight: AtomicUsize::new(0),
            copied: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            same: AtomicU64::new(0),
            different: AtomicU64::new(0),
            born: Instant::now(),
            rests_until: AtomicU64::new(0),
            largest: AtomicU64::new(0),
        }
    }

    /// A permit for a copy, if the draw (0 to 1) says so and not too many are in flight.
    pub(super) fn take(self: &Arc<Self>, draw: f64) -> Option<MirrorSlot> {
        if draw >= self.policy.share.fraction() {
            return None;
        }
        let limit = self.policy.max_in_flight;
        let more = |count: usize| (count < limit).then_some(count + 1);
        let rests = micros(self.born.elapsed()) < self.rests_until.load(Ordering::Relaxed);
        if rests || self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.copied.fetch_add(1, Ordering::Relaxed);
        Some(MirrorSlot(Arc::clone(self)))
    }

    pub(super) fn largest_difference(&self) -> f64 {
        f64::from_bits(self.largest.load(Ordering::Relaxed))
    }
}

/// A permit for one copy; it ends when it is dropped.
#[derive(Debug)]
pub struct MirrorSlot(Arc<Mirror>);

impl MirrorSlot {
    /// The mirror's arm, with its version; it is told how the copy ended.
    pub fn arm(&self) -> &Arc<Arm> {
        &self.0.arm
    }

    /// How far numbers may be apart.
    pub fn tolerance(&self) -> f64 {
        self.0.policy.tolerance.get()
    }

    /// Notes how far two numbers of the answers are apart.
    pub fn distance(&self, distance: f64) {
        self.0.largest.fetch_max(distance.abs().to_bits(), Ordering::Relaxed);
    }

    /// Ends the copy, which took so long: how its answer compares is counted, and the mirror rests in
    /// proportion, so that it takes no more than its part of the time.
    pub fn done(self, same: bool, took: Duration) {
        let count = if same { &self.0.same } else { &self.0.different };
        count.fetch_add(1, Ordering::Relaxed);
        let rest = took.mul_f64((1.0 / self.0.policy.budget.fraction() - 1.0).clamp(0.0, 1e6));
        let until = micros(self.0.born.elapsed().saturating_add(rest));
        self.0.rests_until.fetch_max(until, Ordering::Relaxed);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Drop for MirrorSlot {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Number, Share};

    fn mirror(share: f64, max_in_flight: usize) -> Arc<Mirror> {
        let arm = Arc::new(Arm::new("mirror", "2", "", "mirror"));
        let policy = ShadowPolicy {
            primary: "1".into(),
            mirror: "2".into(),
            share: Share::percent(share),
            tolerance: Number::new(1e-3),
            max_in_flight,
            budget: Share::WHOLE,
        };
        Arc::new(Mirror::new(arm, policy))
    }

    #[test]
    fn copies_in_flight_are_bounded() {
        let mirror = mirror(100.0, 2);
        let slots: Vec<_> = (0..5).filter_map(|_| mirror.take(0.5)).collect();
        assert_eq!((slots.len(), mirror.skipped.load(Ordering::Relaxed)), (2, 3));
        drop(slots);
        assert!(mirror.take(0.5).is_some());
    }

    #[test]
    fn never_more_than_the_bound_among_threads() {
        let mirror = mirror(100.0, 3);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let slot = mirror.take(0.0);
                        assert!(mirror.in_flight.load(Ordering::Relaxed) <= 3);
                        drop(slot);
                    }
                });
            }
        });
        assert_eq!(mirror.in_flight.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_share_is_copied() {
        let mirror = mirror(10.0, 1);
        assert_eq!((0..100).filter(|draw| mirror.take(f64::from(*draw) / 100.0).is_some()).count(), 10);
    }

    #[test]
    fn a_mirror_rests_in_proportion_to_its_work() {
        let mut tired = Arc::into_inner(mirror(100.0, 1)).unwrap();
        tired.policy.budget = Share::percent(1.0);
        let tired = Arc::new(tired);
        tired.take(0.0).unwrap().done(true, Duration::from_secs(60));
        assert!(tired.take(0.0).is_none());
        let rests = tired.rests_until.load(Ordering::Relaxed);
        assert!((5_900_000_000..6_100_000_000).contains(&rests), "{rests}");
    }

    #[test]
    fn what_was_compared_is_counted() {
        let mirror = mirror(100.0, 1);
        let slot = mirror.take(0.0).unwrap();
        slot.distance(0.5);
        slot.done(false, Duration::ZERO);
        assert_eq!((mirror.different.load(Ordering::Relaxed), mirror.largest_difference()), (1, 0.5));
    }
}
