//! When a worker's process that died is replaced, and when a generation is given up.
//!
//! Owns the decision, on a clock of its caller. It starts nothing.
//!
//! A process that dies after runs that ended is replaced at once. If one after the other dies without any run that
//! ended between them, each is replaced later than the one before, and soon none is. So it is with processes that
//! die of their own runs again and again, whatever else ends well between: clients would wait for each of them.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::isolation::LossKind;

/// A generation has had so many points by deaths in a row, without a run that ended between them, when it ends.
const ENOUGH: u32 = 100;
/// The points of a death from outside. An operator does that, or a system without memory: what was killed has done
/// nothing, and may not have had the time to; but it comes to an end.
const KILLED: u32 = 1;
/// The points of any other.
const CRASHED: u32 = 20;
/// Deaths by a process's own fault that end a generation if they come within [`WINDOW`].
const FAULTS: usize = 12;
const WINDOW: Duration = Duration::from_secs(60);
/// The first wait, once there are more points than of one crash; with each further one it is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// What becomes of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is replaced, after this time.
    Replace(Duration),
    /// It is not: the generation is no good, for this reason.
    GiveUp(String),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Crashes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    in_a_row: u32,
    points: u32,
    faults: VecDeque<Instant>,
}

impl Crashes {
    /// A run has ended, well or with an error: its process lives.
    pub(super) fn ran(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.in_a_row, state.points) = (0, 0);
    }

    /// A process has died in this way; `None` if it could not be replaced.
    pub(super) fn died(&self, now: Instant, kind: Option<LossKind>) -> Next {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.in_a_row += 1;
        state.points += if kind == Some(LossKind::Killed) { KILLED } else { CRASHED };
        // Whoever was ended from outside has done nothing, and what cannot be started has not run.
        if kind.is_some_and(|kind| kind != LossKind::Killed) {
            state.faults.push_back(now);
        }
        while state.faults.front().is_some_and(|&at| now.saturating_duration_since(at) > WINDOW) {
            state.faults.pop_front();
        }
        if state.points >= ENOUGH {
            let count = state.in_a_row;
            return Next::GiveUp(format!("its workers died {count} times in a row without a run that ended"));
        }
        if state.faults.len() >= FAULTS {
            let (count, seconds) = (state.faults.len(), WINDOW.as_secs());
            return Next::GiveUp(format!("its workers died {count} times within {seconds} s"));
        }
        let wait = match state.points {
            ..=CRASHED => Duration::ZERO,
            more => FIRST_WAIT.saturating_mul(1 << ((more - CRASHED - 1) / CRASHED).min(16)),
        };
        Next::Replace(wait)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn deaths_in_a_row_are_waited_for_ever_longer_and_then_given_up() {
        let (crashes, now) = (Crashes::default(), Instant::now());
        let next = || crashes.died(now, Some(LossKind::Silent));
        let waits = [0, 100, 200, 400].map(|ms| Next::Replace(Duration::from_millis(ms)));
        for wait in &waits {
            assert_eq!(next(), *wait);
        }
        assert!(matches!(next(), Next::GiveUp(reason) if reason.contains("5 times in a row")));
        crashes.ran();
        assert_eq!(next(), waits[0]);
    }

    #[test]
    fn kills_before_anything_could_run_are_waited_out_for_long_and_not_for_ever() {
        let (crashes, now) = (Crashes::default(), Instant::now());
        let mut waited = Duration::ZERO;
        for _ in 1..ENOUGH {
            let Next::Replace(wait) = crashes.died(now, Some(LossKind::Killed)) else {
                panic!("given up after {waited:?}");
            };
            waited += wait;
        }
        assert!(waited > Duration::from_secs(20), "{waited:?}");
        assert!(matches!(crashes.died(now, Some(LossKind::Killed)), Next::GiveUp(_)));
    }

    #[test]
    fn who_is_killed_from_outside_is_always_replaced_and_who_crashes_is_not() {
        let (crashes, now) = (Crashes::default(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(crashes.died(now, Some(LossKind::Killed)), Next::Replace(Duration::ZERO));
            crashes.ran();
        }
        let last = (0..FAULTS).map(|_| {
            crashes.ran();
            crashes.died(now, Some(LossKind::Crashed))
        });
        assert!(matches!(last.last(), Some(Next::GiveUp(reason)) if reason.contains("12 times within 60 s")));
    }

    proptest! {
        #[test]
        fn whoever_crashes_seldom_is_never_given_up(gaps in proptest::collection::vec(6_u64..100, 0..100)) {
            let (crashes, mut now) = (Crashes::default(), Instant::now());
            for gap in gaps {
                now += Duration::from_secs(gap);
                crashes.ran();
                prop_assert_eq!(crashes.died(now, Some(LossKind::Crashed)), Next::Replace(Duration::ZERO));
            }
        }

        #[test]
        fn without_runs_that_end_there_is_an_end(kinds in proptest::collection::vec(0..7_usize, 5..120)) {
            let (crashes, now) = (Crashes::default(), Instant::now());
            let kind = |index: usize| LossKind::ALL.get(index).copied();
            let gave_up = kinds.iter().position(|&index| matches!(crashes.died(now, kind(index)), Next::GiveUp(_)));
            let killed = |index: usize| kind(index) == Some(LossKind::Killed);
            let points = kinds.iter().scan(0, |sum, &index| {
                *sum += if killed(index) { KILLED } else { CRASHED };
                Some(*sum)
            });
            prop_assert_eq!(gave_up, points.into_iter().position(|sum| sum >= ENOUGH));
        }
    }
}
