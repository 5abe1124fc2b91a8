//! The mirror of a shadow: how many copies are made, and how their answers compare.
//!
//! Owns the bound on copies in flight, so that a slow mirror costs copies, never the primary's time, and
//! the comparison of numbers. Sending the copy is for those who serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

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
        if self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
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

    /// Counts how the mirror's answer compares to the primary's.
    pub fn compared(&self, comparison: Comparison) {
        let count = if comparison.same { &self.0.same } else { &self.0.different };
        count.fetch_add(1, Ordering::Relaxed);
        self.0.largest.fetch_max(comparison.largest.to_bits(), Ordering::Relaxed);
    }
}

impl Drop for MirrorSlot {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How two answers compare.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// True if nothing is further apart than the tolerance.
    pub same: bool,
    /// The largest distance of two numbers, relative to the greater one, absolute where both are below
    /// 1; infinite where one is no number.
    pub largest: f64,
}

impl Comparison {
    /// Two answers that are the same, to the byte.
    pub const SAME: Self = Self { same: true, largest: 0.0 };
    /// Two answers that cannot be compared number by number: other names, shapes or texts.
    pub const DIFFERENT: Self = Self { same: false, largest: 0.0 };

    /// Compares numbers pair by pair.
    pub fn of(tolerance: f64, pairs: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let largest = pairs.into_iter().map(|(left, right)| distance(left, right)).fold(0.0, f64::max);
        Self { same: largest <= tolerance, largest }
    }

    /// Both comparisons as one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { same: self.same && other.same, largest: self.largest.max(other.largest) }
    }
}

fn distance(left: f64, right: f64) -> f64 {
    if left == right || (left.is_nan() && right.is_nan()) {
        return 0.0;
    }
    let distance = (left - right).abs() / left.abs().max(right.abs()).max(1.0);
    if distance.is_nan() { f64::INFINITY } else { distance }
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
    fn numbers_are_compared_relatively_above_one() {
        assert!(Comparison::of(1e-3, [(1000.0, 1000.5), (0.0, 0.0005)]).same);
        assert!(!Comparison::of(1e-3, [(1.0, 1.0), (0.0, 0.002)]).same);
        assert_eq!(
            Comparison::of(1e-3, [(f64::NAN, f64::NAN), (f64::INFINITY, f64::INFINITY)]),
            Comparison::SAME
        );
        for (left, right) in [(f64::NAN, 1.0), (f64::INFINITY, 1.0), (f64::INFINITY, f64::NEG_INFINITY)] {
            let comparison = Comparison::of(1e-3, [(left, right)]);
            assert!(!comparison.same && comparison.largest == f64::INFINITY, "{comparison:?}");
        }
        let slot = mirror(100.0, 1).take(0.0).unwrap();
        slot.compared(Comparison { same: false, largest: 0.5 });
        slot.compared(Comparison::SAME.and(Comparison::DIFFERENT));
        assert_eq!((slot.0.different.load(Ordering::Relaxed), slot.0.largest_difference()), (2, 0.5));
    }
}
