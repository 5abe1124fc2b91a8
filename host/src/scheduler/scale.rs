//! When a model gets another worker, and when it loses one.
//!
//! Owns the decision, on a clock of its caller. It opens nothing and starts no thread.
//!
//! Out: requests have waited longer than the target for a while, seen at every look; what waits for long
//! because runs are long, not because there are many of them, still needs another worker. In: for a whole
//! period at least one worker was never needed. After each step the other direction starts from nothing.

use std::time::{Duration, Instant};

/// The bounds of a generation's workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRange {
    /// Workers that are always there.
    pub min: usize,
    /// Workers, at most.
    pub max: usize,
    /// How long a request may wait in the queue before another worker is worth it.
    pub wait: Duration,
    /// How long a worker has to have been needless before it ends.
    pub idle: Duration,
}

/// For how long requests have to wait too long.
const SUSTAINED: Duration = Duration::from_millis(250);
/// After a worker could not be opened.
const BACK_OFF: Duration = Duration::from_secs(30);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Another worker is to be opened; a request has waited this long.
    Out(Duration),
    /// One is to end; so many at most were busy at a time.
    In(usize),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Scale {
    over_since: Option<Instant>,
    /// No step before.
    rests_until: Instant,
    opening: bool,
    /// The most workers that were busy at a time since `period`.
    peak: usize,
    period: Instant,
}

impl Scale {
    pub(super) fn new(now: Instant) -> Self {
        Self { over_since: None, rests_until: now, opening: false, peak: 0, period: now }
    }

    /// Looks at how things stand: how long the next request to be served has waited, `workers` there are,
    /// and how many are `busy`.
    pub(super) fn look(
        &mut self,
        now: Instant,
        waited: Duration,
        (workers, busy): (usize, usize),
        range: &WorkerRange,
    ) -> Option<Step> {
        self.peak = self.peak.max(busy);
        if waited <= range.wait {
            self.over_since = None;
        } else {
            let since = *self.over_since.get_or_insert(now);
            let sustained = now.saturating_duration_since(since) >= SUSTAINED && now >= self.rests_until;
            if sustained && workers < range.max && !self.opening {
                self.opening = true;
                self.over_since = None;
                return Some(Step::Out(waited));
            }
        }
        if now.saturating_duration_since(self.period) < range.idle {
            return None;
        }
        let peak = std::mem::replace(&mut self.peak, busy);
        self.period = now;
        let needless = peak < workers && workers > range.min && !self.opening;
        needless.then_some(Step::In(peak))
    }

    /// When the next look is due although nothing happens; `None` if there is nothing to end.
    pub(super) fn due(&self, workers: usize, range: &WorkerRange) -> Option<Instant> {
        (workers > range.min).then(|| self.period + range.idle)
    }

    /// Notes that opening a worker has ended.
    pub(super) fn opened(&mut self, now: Instant, succeeded: bool) {
        self.opening = false;
        self.over_since = None;
        self.rests_until = now + if succeeded { SUSTAINED } else { BACK_OFF };
        (self.period, self.peak) = (now, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn range(min: usize, max: usize) -> WorkerRange {
        WorkerRange { min, max, wait: 10 * MS, idle: 1000 * MS }
    }

    #[test]
    fn a_short_wait_or_a_long_one_for_a_moment_changes_nothing() {
        let (begin, range) = (Instant::now(), range(1, 2));
        let mut scale = Scale::new(begin);
        for (at, waited) in [(0, 10), (100, 50), (200, 50), (300, 5), (400, 50), (600, 50)] {
            assert_eq!(scale.look(begin + at * MS, waited * MS, (1, 1), &range), None, "{at}");
        }
        assert_eq!(scale.look(begin + 650 * MS, 50 * MS, (1, 1), &range), Some(Step::Out(50 * MS)));
        // One at a time, and a rest after it.
        assert_eq!(scale.look(begin + 950 * MS, 50 * MS, (1, 1), &range), None);
        scale.opened(begin + 960 * MS, true);
        assert_eq!(scale.look(begin + 1000 * MS, 50 * MS, (2, 2), &range), None);
    }

    #[test]
    fn a_worker_that_was_never_needed_ends_and_the_last_ones_stay() {
        let (begin, range) = (Instant::now(), range(1, 3));
        let mut scale = Scale::new(begin);
        assert_eq!(scale.due(1, &range), None);
        assert_eq!(scale.due(2, &range), Some(begin + 1000 * MS));
        assert_eq!(scale.look(begin + 500 * MS, Duration::ZERO, (3, 3), &range), None);
        // All three were needed in this period, two in the next.
        assert_eq!(scale.look(begin + 1000 * MS, Duration::ZERO, (3, 1), &range), None);
        assert_eq!(scale.look(begin + 1500 * MS, Duration::ZERO, (3, 2), &range), None);
        assert_eq!(scale.look(begin + 2000 * MS, Duration::ZERO, (3, 0), &range), Some(Step::In(2)));
        assert_eq!(scale.look(begin + 3000 * MS, Duration::ZERO, (2, 0), &range), Some(Step::In(0)));
        assert_eq!(scale.look(begin + 4000 * MS, Duration::ZERO, (1, 0), &range), None);
    }

    #[test]
    fn after_a_failure_it_waits() {
        let (begin, range) = (Instant::now(), range(1, 2));
        let mut scale = Scale::new(begin);
        let mut outs = Vec::new();
        for at in 0..400 {
            let now = begin + at * 100 * MS;
            if scale.look(now, 50 * MS, (1, 1), &range).is_some() {
                scale.opened(now, false);
                outs.push(at);
            }
        }
        assert_eq!(outs, [3, 303]);
    }

    proptest! {
        #[test]
        fn it_stays_within_bounds_and_takes_one_step_at_a_time(
            looks in prop::collection::vec((0_u32..400, 0_u32..30, 0_usize..8, any::<bool>()), 0..300),
            min in 1_usize..3,
            more in 0_usize..4,
        ) {
            let (range, mut now) = (range(min, min + more), Instant::now());
            let mut scale = Scale::new(now);
            let (mut workers, mut opening) = (min, false);
            for (later, waited, busy, opens) in looks {
                now += later * MS;
                match scale.look(now, waited * MS, (workers, busy.min(workers)), &range) {
                    Some(Step::Out(_)) => {
                        prop_assert!(!opening && workers < range.max);
                        opening = true;
                    }
                    Some(Step::In(_)) => {
                        prop_assert!(!opening);
                        workers -= 1;
                    }
                    None => {}
                }
                if opening && opens {
                    opening = false;
                    workers += 1;
                    scale.opened(now, true);
                }
                prop_assert!((range.min..=range.max).contains(&workers));
            }
        }
    }
}
