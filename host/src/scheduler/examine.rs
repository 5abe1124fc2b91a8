//! What a model makes of batches: found out by running it, before it serves.
//!
//! Owns two questions. May requests share a run: is an item's answer the same whoever it runs with? And what
//! is gained by it: which size costs the least processor time for each item, or on a GPU the least time? An open first dimension proves
//! neither: it may be a sequence's length, and large convolutions run slower in batches.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::samples;
use crate::error::Error;
use crate::isolation::Executor;
use crate::model::split;
use crate::model::tensor::Tensor;

/// Sizes that are tried, in this order; what lies beyond gains little on a processor.
const SIZES: [usize; 5] = [2, 4, 8, 16, 32];
/// Sizes that are tried after those on a GPU, which small ones leave idle.
const GPU_SIZES: [usize; 2] = [64, 128];
/// What open dimensions other than the first are tried with.
const OPEN: [usize; 3] = [8, 1, 224];
/// Runs of one size, and how long they may take together.
const RUNS: usize = 12;
const PATIENCE: Duration = Duration::from_millis(40);
/// All sizes together.
const WHOLE_PATIENCE: Duration = Duration::from_millis(500);
/// A smaller size is taken if it costs no more than this part of the best.
const NEAR_BEST: f64 = 1.10;
/// An item that costs so much more than at best: larger sizes are not tried.
const HARM: f64 = 1.35;
/// Batches that gain less than this are not worth that requests wait for each other.
const WORTH: f64 = 1.15;

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Examined {
    /// Whether requests may share runs.
    pub(super) verdict: Verdict,
    /// The size that is worth it; 1 if none is.
    pub(super) best: usize,
}

/// Whether requests may share runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Two items gave the same answers together as alone.
    Proven,
    /// It could not be tried.
    Unknown(String),
    /// They may not.
    Never(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proven => f.write_str("items answer the same together as alone"),
            Self::Unknown(reason) | Self::Never(reason) => f.write_str(reason),
        }
    }
}

/// Gets to know a model. `tolerance` is how far an answer in a batch may be from the one alone, relative to
/// the largest number of the output. Takes up to a second or so.
pub(super) fn examine(session: &mut Executor, tolerance: f64) -> Examined {
    if let Some(reason) = session.signature().why_unbatchable() {
        return Examined { verdict: Verdict::Never(reason), best: 1 };
    }
    let mut failure = "it is too large to be tried with made-up inputs".to_owned();
    for open in OPEN {
        let signature = session.signature();
        let (Some(first), Some(second)) =
            (samples::item(signature, open, 1), samples::item(signature, open, 2))
        else {
            continue;
        };
        match prove(session, &first, &second, tolerance) {
            Ok(Verdict::Proven) => {
                return Examined { verdict: Verdict::Proven, best: best_size(session, &first, &second) };
            }
            Ok(verdict) => return Examined { verdict, best: 1 },
            Err(error) => failure = format!("it does not run with made-up inputs: {error}"),
        }
    }
    Examined { verdict: Verdict::Unknown(failure), best: 1 }
}

/// Runs a session once with a batch of `size`, so that its first request finds memory in place. A model that
/// does not run with made-up inputs stays cold.
pub(super) fn warm(session: &mut Executor, size: usize) {
    for open in OPEN {
        let Some(item) = samples::item(session.signature(), open, 1) else {
            continue;
        };
        let items: Vec<&[Tensor]> = std::iter::repeat_n(item.as_slice(), size.max(1)).collect();
        if session.run_batch(&items, &[], None).is_ok() {
            return;
        }
    }
}

/// Two items alone, then together.
fn prove(
    session: &mut Executor,
    first: &[Tensor],
    second: &[Tensor],
    tolerance: f64,
) -> Result<Verdict, Error> {
    let all: Vec<usize> = (0..session.signature().outputs.len()).collect();
    let alone = [session.run(first, &all)?, session.run(second, &all)?];
    let together = match session.run_batch(&[first, second], &all, None) {
        Ok(outputs) => outputs,
        Err(error) => return Ok(Verdict::Never(format!("two items do not run together: {error}"))),
    };
    for (position, output) in together.iter().enumerate() {
        let parts = match split(output, &[1, 1]) {
            Ok(parts) => parts,
            Err(does_not_follow) => return Ok(Verdict::Never(does_not_follow.to_string())),
        };
        for (alone, part) in alone.iter().zip(&parts) {
            let distance = alone.get(position).map_or(f64::INFINITY, |alone| samples::distance(alone, part));
            if distance > tolerance {
                return Ok(Verdict::Never(format!(
                    "output '{}' of an item depends on the other items of its run: it differs by {distance:.1e} \
                     of its largest number, and batching.tolerance is {tolerance:.1e}",
                    output.name
                )));
            }
        }
    }
    Ok(Verdict::Proven)
}

/// The smallest size that costs nearly as little for each item as the best.
fn best_size(session: &mut Executor, first: &[Tensor], second: &[Tensor]) -> usize {
    let began = Instant::now();
    let mut costs = Vec::new();
    let is_on_gpu = session.is_on_gpu();
    let larger = GPU_SIZES.into_iter().filter(|_| is_on_gpu);
    for size in std::iter::once(1).chain(SIZES).chain(larger) {
        let items: Vec<&[Tensor]> = [first, second].into_iter().cycle().take(size).collect();
        let Some(cost) = cost(session, &items) else {
            break;
        };
        costs.push((size, cost / size as f64));
        if began.elapsed() > WHOLE_PATIENCE || has_stopped_gaining(&costs) {
            break;
        }
    }
    choose(&costs)
}

/// Whether the last two doublings brought nothing, or the last one did harm.
fn has_stopped_gaining(costs: &[(usize, f64)]) -> bool {
    let best = costs.iter().map(|&(_, cost)| cost).fold(f64::INFINITY, f64::min);
    if costs.last().is_some_and(|&(_, last)| last > best * HARM) {
        return true;
    }
    let Some((earlier, [(_, last_but_one), (_, last)])) = costs.split_last_chunk::<2>() else {
        return false;
    };
    let best = earlier.iter().map(|&(_, cost)| cost).fold(f64::INFINITY, f64::min);
    last_but_one.min(*last) * 1.05 > best
}

/// From sizes, ascending, and what an item costs in each.
fn choose(costs: &[(usize, f64)]) -> usize {
    let best = costs.iter().map(|&(_, cost)| cost).fold(f64::INFINITY, f64::min);
    let alone = costs.first().map_or(0.0, |&(_, cost)| cost);
    if best * WORTH > alone {
        return 1;
    }
    costs.iter().find(|&&(_, cost)| cost <= best * NEAR_BEST).map_or(1, |&(size, _)| size)
}

/// Seconds that the fastest of a few runs takes; `None` if it fails.
fn cost(session: &mut Executor, items: &[&[Tensor]]) -> Option<f64> {
    let began = Instant::now();
    let mut least = f64::INFINITY;
    // The first run of a size grows the session's memory; it counts only if there is no time for another.
    for run in 0..RUNS {
        // If the run computes on this thread, the thread's own time does not depend on who else computes.
        let clock = if session.computes_here() { ClockId::ThreadCPUTime } else { ClockId::Monotonic };
        let start = seconds(clock);
        session.run_batch(items, &[], None).ok()?;
        let took = seconds(clock) - start;
        least = least.min(session.spent().map_or(took, |spent| spent.as_secs_f64()));
        if run > 0 && began.elapsed() > PATIENCE {
            break;
        }
    }
    Some(least)
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_size_near_the_best_is_chosen() {
        // Microseconds for each item, as they were measured.
        let lstm = [(1, 23.1), (2, 19.5), (4, 15.0), (8, 12.7), (16, 11.5), (32, 9.5)];
        let transformer = [(1, 58.5), (2, 39.2), (4, 26.5), (8, 16.5), (16, 20.5), (32, 19.9)];
        let convolutions = [(1, 6448.0), (2, 5936.0), (4, 9081.0)];
        assert_eq!((choose(&lstm), choose(&transformer), choose(&convolutions)), (32, 8, 1));
        assert_eq!((choose(&[(1, 5.0)]), choose(&[])), (1, 1));
        assert!(has_stopped_gaining(&[(1, 10.0), (2, 10.0), (4, 9.9)]));
        assert!(!has_stopped_gaining(&[(1, 10.0), (2, 10.0), (4, 8.0)]));
        assert!(!has_stopped_gaining(&[(1, 10.0), (2, 12.0)]));
        assert!(has_stopped_gaining(&convolutions));
    }
}
