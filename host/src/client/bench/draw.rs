//! Which of several different requests is sent next.
//!
//! Owns the order, which is the same for the same seed: each as often as the others, or by Zipf's law, where number
//! k of them has a weight of 1/k^s. Drawn once, before the load; a draw is one addition.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::random::Random;

/// Draws before the order begins again.
const LENGTH: usize = 1 << 16;

/// See the module. Copies share their place in the order.
#[derive(Clone, Debug)]
pub(super) struct Draw {
    order: Arc<[u32]>,
    next: Arc<AtomicUsize>,
}

impl Draw {
    /// An order of `count` requests, at least one, with the exponent `zipf`; 0 means that all are alike.
    pub(super) fn new(count: usize, zipf: f64, seed: u64) -> Self {
        let order = if count < 2 { Arc::from([0]) } else { order(count, zipf, seed) };
        Self { order, next: Arc::default() }
    }

    /// The next one's index.
    pub(super) fn take(&self) -> usize {
        if self.order.len() == 1 {
            return 0;
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.order.get(turn % self.order.len()).map_or(0, |&index| index as usize)
    }
}

fn order(count: usize, zipf: f64, seed: u64) -> Arc<[u32]> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=count)
        .map(|rank| {
            sum += (rank as f64).powf(-zipf);
            sum
        })
        .collect();
    let mut random = Random::new(seed);
    let draw = |_| {
        let at = random.unit() * sum;
        let index = sums.partition_point(|&upto| upto <= at).min(count - 1);
        u32::try_from(index).unwrap_or(u32::MAX)
    };
    (0..LENGTH).map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(count: usize, zipf: f64) -> Vec<f64> {
        let draw = Draw::new(count, zipf, 3);
        let mut counts = vec![0_u32; count];
        (0..LENGTH).for_each(|_| counts[draw.take()] += 1);
        counts.iter().map(|&count| f64::from(count) / LENGTH as f64).collect()
    }

    #[test]
    fn all_alike_or_by_zipfs_law() {
        assert!(shares(4, 0.0).iter().all(|share| (0.23..0.27).contains(share)));
        // 1 + 1/2 + 1/3 + 1/4 = 25/12.
        for (share, expected) in shares(4, 1.0).iter().zip([0.48, 0.24, 0.16, 0.12]) {
            assert!((share - expected).abs() < 0.01, "{share} instead of {expected}");
        }
        assert_eq!(shares(1, 1.0), [1.0]);
    }

    #[test]
    fn the_order_is_the_seeds_and_copies_share_it() {
        let (one, same, other) = (Draw::new(50, 1.0, 7), Draw::new(50, 1.0, 7), Draw::new(50, 1.0, 8));
        let all = |draw: &Draw| (0..100).map(|_| draw.take()).collect::<Vec<_>>();
        let first = all(&one);
        assert_eq!(first, all(&same));
        assert_ne!(first, all(&other));
        let copy = same.clone();
        assert_eq!(
            (0..100).map(|turn| if turn % 2 == 0 { same.take() } else { copy.take() }).collect::<Vec<_>>(),
            all(&one)
        );
    }
}
