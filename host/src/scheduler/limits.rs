//! What an operator may change while a model runs: the bounds of its queue, and how requests share runs.
//!
//! Owns the types and what follows from them. It decides nothing about a single request.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

/// The bounds of a generation's queue and of its batches. All of it may be changed while it serves.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerLimits {
    /// Requests that may wait.
    pub queue_size: usize,
    /// How long a request may wait before a worker starts it.
    pub queue_timeout: Duration,
    /// Levels of priority, 1 the first to be served; with one level, priorities mean nothing.
    pub priorities: u32,
    /// How requests share runs.
    pub batching: BatchLimits,
}

/// How requests share runs of a model that allows it.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchLimits {
    /// Items of a run, at most; 1 is no batching, `None` what was found best when the model was loaded.
    pub max_size: Option<NonZeroUsize>,
    /// Elements of all inputs of a run, at most: where requests differ in size, what a run costs follows these
    /// rather than its items. One item may have more, and runs by itself.
    pub max_elements: Option<NonZeroUsize>,
    /// How long a request may be held back for others to join it.
    pub max_delay: Duration,
    /// Sizes to prefer, ascending: a batch is cut to the greatest one that is reached, and only while none is
    /// reached, held back.
    pub preferred: Vec<usize>,
    /// What becomes of a single request of more than so many items.
    pub oversize: Oversize,
}

impl Default for BatchLimits {
    /// No timer; a larger request runs by itself.
    fn default() -> Self {
        Self {
            max_size: None,
            max_elements: None,
            max_delay: Duration::ZERO,
            preferred: Vec::new(),
            oversize: Oversize::Run,
        }
    }
}

/// What becomes of a request that is larger than a batch may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oversize {
    /// It runs whole, by itself, as it would without batching.
    Run,
    /// It is cut into requests of at most that size, which wait and run like any others.
    Split,
    /// It is refused.
    Refuse,
}

impl SchedulerLimits {
    /// The level of a request that says `priority`: 0, nothing or more than there are is the middle one.
    pub(super) fn level(&self, priority: Option<u64>) -> u32 {
        let said = priority.and_then(|priority| u32::try_from(priority).ok());
        let within = said.filter(|level| (1..=self.priorities).contains(level));
        within.unwrap_or_else(|| self.priorities.div_ceil(2).max(1))
    }
}

/// How the queue forms batches.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BatchRules {
    /// Items, at most; at least 1.
    pub(super) max_size: usize,
    pub(super) max_elements: Option<NonZeroUsize>,
    pub(super) max_delay: Duration,
    pub(super) preferred: Vec<usize>,
}

/// What to do with requests that could run together now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Take those of the front, up to so many items.
    Take(usize),
    /// Not before then, unless more arrive.
    WaitUntil(Instant),
}

impl BatchRules {
    /// Items that a run may have if each has so many elements; at least 1.
    pub(super) fn most_items(&self, elements_of_item: usize) -> usize {
        most_items(self.max_size, self.max_elements, elements_of_item)
    }

    /// Decides on `items` that wait, of which a run may have `most`; the oldest waits since `oldest`.
    pub(super) fn decide(&self, items: usize, most: usize, oldest: Instant, now: Instant) -> Decision {
        if items >= most {
            return Decision::Take(most);
        }
        let reached = self.preferred.iter().rev().find(|&&size| size <= items && size <= most);
        if let Some(&size) = reached {
            return Decision::Take(size);
        }
        let due = oldest + self.max_delay;
        if due > now { Decision::WaitUntil(due) } else { Decision::Take(most) }
    }
}

/// Items that a run may have: `max_size`, or fewer if they are so large that they have more elements together
/// than a run may have. At least 1.
pub(super) fn most_items(
    max_size: usize,
    max_elements: Option<NonZeroUsize>,
    elements_of_item: usize,
) -> usize {
    let fit = max_elements.map_or(usize::MAX, |most| most.get() / elements_of_item.max(1));
    max_size.min(fit).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_that_mean_nothing_are_the_middle_one() {
        let mut limits = SchedulerLimits {
            queue_size: 1,
            queue_timeout: Duration::ZERO,
            priorities: 5,
            batching: BatchLimits::default(),
        };
        for (said, level) in [(None, 3), (Some(0), 3), (Some(1), 1), (Some(5), 5), (Some(6), 3)] {
            assert_eq!(limits.level(said), level, "{said:?}");
        }
        assert_eq!(limits.level(Some(u64::MAX)), 3);
        limits.priorities = 1;
        assert_eq!((limits.level(None), limits.level(Some(9))), (1, 1));
    }

    #[test]
    fn a_batch_waits_only_if_told_and_only_while_no_preferred_size_is_reached() {
        let now = Instant::now();
        let mut rules =
            BatchRules { max_size: 8, max_elements: None, max_delay: Duration::ZERO, preferred: vec![] };
        assert_eq!(rules.decide(1, 8, now, now), Decision::Take(8));
        rules.max_delay = Duration::from_secs(1);
        assert_eq!(rules.decide(7, 8, now, now), Decision::WaitUntil(now + rules.max_delay));
        assert_eq!(rules.decide(7, 8, now, now + rules.max_delay), Decision::Take(8));
        assert_eq!(rules.decide(9, 8, now, now), Decision::Take(8));
        rules.preferred = vec![2, 4, 64];
        assert_eq!(rules.decide(7, 8, now, now), Decision::Take(4));
        assert_eq!(rules.decide(3, 8, now, now), Decision::Take(2));
        assert_eq!(rules.decide(1, 8, now, now), Decision::WaitUntil(now + rules.max_delay));
    }
    #[test]
    fn large_items_make_small_batches() {
        let elements = NonZeroUsize::new(100);
        for (of_item, most) in [(0, 8), (1, 8), (12, 8), (13, 7), (50, 2), (51, 1), (100, 1), (usize::MAX, 1)]
        {
            assert_eq!(most_items(8, elements, of_item), most, "{of_item}");
            assert_eq!(most_items(8, None, of_item), 8);
        }
    }
}
