//! Response times over time.
//!
//! Owns the cutting into slices and their percentiles. It knows no clock: all is in seconds from the start of
//! the load.

use serde::Serialize;

/// One request that had a success for an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) struct Point {
    /// When it was due.
    pub(in super::super) due_s: f64,
    /// From then to the whole answer.
    pub(in super::super) took_s: f64,
}

/// What became of the requests that were due in one stretch of time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Slice {
    /// The stretch's middle, from the start of the measurement.
    pub(super) at_s: f64,
    pub(super) requests: usize,
    pub(super) mean_ms: f64,
    pub(super) p99_ms: f64,
    /// Workers at its end, where the host said.
    pub(super) workers: Option<f64>,
    /// Items of its runs on average, where the host said and any ended.
    pub(super) batch: Option<f64>,
}

/// Cuts the points that were due from `from_s` on into `count` slices over `length_s`. Slices in which nothing
/// was due are left out.
pub(super) fn slices(points: &[Point], from_s: f64, length_s: f64, count: usize) -> Vec<Slice> {
    let width = length_s / count.max(1) as f64;
    let mut taken: Vec<Vec<f64>> = vec![Vec::new(); count];
    for point in points.iter().filter(|point| point.due_s >= from_s) {
        let index = ((point.due_s - from_s) / width) as usize;
        if let Some(slice) = taken.get_mut(index) {
            slice.push(point.took_s * 1e3);
        }
    }
    let middle = |index: usize| (index as f64 + 0.5) * width;
    let slices = taken.into_iter().enumerate().filter(|(_, took)| !took.is_empty());
    slices
        .map(|(index, mut took)| {
            took.sort_by(f64::total_cmp);
            let mean_ms = took.iter().sum::<f64>() / took.len() as f64;
            let p99_ms = percentile(&took, 0.99);
            let (at_s, requests) = (middle(index), took.len());
            Slice { at_s, requests, mean_ms, p99_ms, workers: None, batch: None }
        })
        .collect()
}

/// The least of `sorted` that at least `share` of them do not exceed; 0 if there are none.
pub(super) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).or(sorted.last()).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        let at = |share| percentile(&hundred, share);
        assert_eq!([at(0.0), at(0.5), at(0.99), at(0.991), at(1.0)], [1.0, 50.0, 99.0, 100.0, 100.0]);
        assert_eq!((percentile(&[7.0], 0.5), percentile(&[], 0.5)), (7.0, 0.0));
    }

    #[test]
    fn a_point_counts_where_it_was_due_not_where_it_ended() {
        let point = |due_s, took_s| Point { due_s, took_s };
        // One in the warm-up, two in the first second, none in the second, one in the last that ends later.
        let points =
            [point(1.9, 9.0), point(2.0, 0.001), point(2.9, 0.003), point(4.5, 30.0), point(5.0, 1.0)];
        let slices = slices(&points, 2.0, 3.0, 3);
        assert_eq!(slices.iter().map(|slice| slice.at_s).collect::<Vec<_>>(), [0.5, 2.5]);
        assert_eq!(slices.iter().map(|slice| slice.requests).collect::<Vec<_>>(), [2, 1]);
        assert!((slices[0].mean_ms - 2.0).abs() < 1e-9 && (slices[0].p99_ms - 3.0).abs() < 1e-9);
        assert!((slices[1].mean_ms - 30_000.0).abs() < 1e-6);
    }
}
