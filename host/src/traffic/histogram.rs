//! Latencies as counts in buckets, written without a lock.
//!
//! Owns the buckets: 32 for each doubling of time from 1 µs to 137 s, so that a value is known to some
//! 3 %. A [`Snapshot`] is a copy; the difference of two of them is what came between.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets for each doubling: 2 to this power.
const FINE: u32 = 5;
/// The first doubling begins at 2 to this power, in nanoseconds.
const LOWEST: u32 = 10;
/// The last one ends there.
const HIGHEST: u32 = 37;
/// One bucket for what is shorter; what is longer is in the last one.
const BUCKETS: usize = (((HIGHEST - LOWEST) << FINE) + 1) as usize;

/// See the module.
#[derive(Debug)]
pub(super) struct Histogram(Box<[AtomicU64]>);

impl Histogram {
    pub(super) fn new() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Counts one value.
    pub(super) fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.0.get(bucket_of(nanos)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What it holds now.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot(self.0.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect())
    }
}

fn bucket_of(nanos: u64) -> usize {
    let power = nanos.max(1).ilog2();
    if power < LOWEST {
        return 0;
    }
    if power >= HIGHEST {
        return BUCKETS - 1;
    }
    let within = (nanos >> (power - FINE)) & ((1 << FINE) - 1);
    1 + ((power - LOWEST) << FINE) as usize + within as usize
}

/// Where a bucket begins, in nanoseconds. That of the one behind the last is where the last one ends.
fn start_of(bucket: usize) -> f64 {
    let Some(bucket) = bucket.checked_sub(1) else {
        return 0.0;
    };
    let power = LOWEST + (bucket >> FINE) as u32;
    let within = (bucket & ((1 << FINE) - 1)) as f64 / f64::from(1_u32 << FINE);
    2_f64.powi(power as i32) * (1.0 + within)
}

/// Counts at one moment, or between two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot(Vec<u64>);

impl Snapshot {
    /// The buckets that have something, and how much.
    pub(super) fn buckets(&self) -> Vec<(usize, u64)> {
        let buckets = self.0.iter().enumerate();
        buckets.filter(|(_, count)| **count > 0).map(|(bucket, count)| (bucket, *count)).collect()
    }

    /// What these buckets have; those that there are not do not count.
    pub(super) fn of(buckets: &[(usize, u64)]) -> Self {
        let mut counts = vec![0_u64; BUCKETS];
        for (bucket, count) in buckets {
            if let Some(all) = counts.get_mut(*bucket) {
                *all = all.saturating_add(*count);
            }
        }
        Self(counts)
    }

    /// What came since an earlier snapshot.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let before = earlier.0.iter().chain(std::iter::repeat(&0));
        Self(self.0.iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).collect())
    }

    /// What is in either.
    pub(super) fn plus(&self, other: &Self) -> Self {
        let (longer, shorter) = if self.0.len() >= other.0.len() { (self, other) } else { (other, self) };
        let rest = shorter.0.iter().chain(std::iter::repeat(&0));
        Self(longer.0.iter().zip(rest).map(|(left, right)| left.saturating_add(*right)).collect())
    }

    /// How many values there are.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().fold(0, |all, count| all.saturating_add(*count))
    }

    /// The value below which this part of all values lies, in nanoseconds; evenly spread in its bucket.
    pub(super) fn quantile(&self, part: f64) -> Option<f64> {
        let (bucket, within) = self.find(part * self.count() as f64)?;
        Some(start_of(bucket) + within * (start_of(bucket + 1) - start_of(bucket)))
    }

    /// A value that at least `rank` values (from 1) are not above, in nanoseconds.
    pub(super) fn at_most(&self, rank: u64) -> Option<f64> {
        let (bucket, _) = self.find(rank as f64)?;
        Some(start_of(bucket + 1))
    }

    /// How many values are certainly at or above this one, in nanoseconds.
    pub(super) fn above(&self, nanos: f64) -> u64 {
        let certain = self.0.iter().enumerate().filter(|(bucket, _)| start_of(*bucket) >= nanos);
        certain.map(|(_, count)| count).sum()
    }

    /// The bucket in which the count from below reaches `rank`, and how far into it.
    fn find(&self, rank: f64) -> Option<(usize, f64)> {
        let mut below = 0.0;
        for (bucket, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if below + count >= rank {
                return Some((bucket, ((rank - below) / count).clamp(0.0, 1.0)));
            }
            below += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_join_without_a_gap() {
        for bucket in 0..BUCKETS {
            let start = start_of(bucket) as u64;
            assert_eq!(bucket_of(start), bucket, "{start}");
            if bucket > 0 {
                assert_eq!(bucket_of(start - 1), bucket - 1, "{start}");
            }
        }
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn nothing_has_no_quantile() {
        let empty = Histogram::new().snapshot();
        assert_eq!((empty.count(), empty.quantile(0.5), Snapshot::default().quantile(0.5)), (0, None, None));
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_bucket(mut micros in prop::collection::vec(1..50_000_000_u64, 1..300), part in 0.01_f64..0.99) {
            let histogram = Histogram::new();
            micros.iter().for_each(|micros| histogram.record(Duration::from_micros(*micros)));
            micros.sort_unstable();
            let rank = f64::ceil(part * micros.len() as f64) as usize;
            let exact = micros[rank - 1] as f64 * 1000.0;
            let found = histogram.snapshot().quantile(part).unwrap();
            prop_assert!((found / exact - 1.0).abs() < 0.04, "{found} {exact}");
        }

        #[test]
        fn differences_and_sums_belong_together(first in prop::collection::vec(any::<u32>(), 0..50), then in prop::collection::vec(any::<u32>(), 0..50)) {
            let histogram = Histogram::new();
            let record = |values: &[u32]| values.iter().for_each(|nanos| histogram.record(Duration::from_nanos(u64::from(*nanos))));
            record(&first);
            let before = histogram.snapshot();
            record(&then);
            let after = histogram.snapshot();
            prop_assert_eq!(after.since(&before).count(), then.len() as u64);
            prop_assert_eq!(after.since(&before).plus(&before), after);
        }
    }
}
