//! When each request of an open loop is to be sent.
//!
//! Owns the arithmetic only; it never looks at a clock. Two copies of a schedule give the same
//! moments: one tells the pacer when to wake up, the other tells the senders what was intended.

use std::time::Duration;

use super::args::Arrival;
use super::random::Random;

/// When a phase ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// So long after the warm-up.
    Time(Duration),
    /// After so many requests beyond the warm-up's.
    Requests(u64),
}

/// The intended sending moments, counted from the start of the phase, in order.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    rate: f64,
    arrival: Arrival,
    random: Random,
    warmup: Duration,
    limit: Limit,
    index: u64,
    seconds: f64,
    measured: u64,
}

impl Schedule {
    /// Requests at `rate` a second from 0 on, through the warm-up and up to `limit` beyond it.
    pub(super) const fn new(rate: f64, arrival: Arrival, seed: u64, warmup: Duration, limit: Limit) -> Self {
        let random = Random::new(seed);
        Self { rate, arrival, random, warmup, limit, index: 0, seconds: 0.0, measured: 0 }
    }

    /// The next moment before any limit.
    fn advance(&mut self) -> Duration {
        let seconds = match self.arrival {
            // From the index, not by adding gaps: no error builds up.
            Arrival::Constant => self.index as f64 / self.rate,
            Arrival::Poisson => {
                self.seconds -= (1.0 - self.random.unit()).ln() / self.rate;
                self.seconds
            }
        };
        self.index += 1;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.limit == Limit::Requests(self.measured) {
            return None;
        }
        let due = self.advance();
        if let Limit::Time(duration) = self.limit
            && due >= self.warmup.saturating_add(duration)
        {
            return None;
        }
        if due >= self.warmup {
            self.measured += 1;
        }
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn constant(rate: f64, warmup: Duration, limit: Limit) -> Schedule {
        Schedule::new(rate, Arrival::Constant, 1, warmup, limit)
    }

    #[test]
    fn constant_arrivals_do_not_drift() {
        let last = constant(3000.0, Duration::ZERO, Limit::Requests(3_000_001)).last().unwrap();
        assert_eq!(last, Duration::from_secs(1000));
    }

    #[test]
    fn a_time_limit_counts_from_the_end_of_the_warm_up() {
        let moments: Vec<_> = constant(10.0, SECOND, Limit::Time(SECOND)).collect();
        assert_eq!(moments.len(), 20);
        assert_eq!((moments[0], moments[19]), (Duration::ZERO, Duration::from_millis(1900)));
    }

    #[test]
    fn a_request_limit_counts_only_what_is_measured() {
        let moments: Vec<_> = constant(10.0, SECOND, Limit::Requests(5)).collect();
        assert_eq!(moments.len(), 15);
        assert_eq!(moments.iter().filter(|moment| **moment >= SECOND).count(), 5);
        assert_eq!(constant(10.0, SECOND, Limit::Requests(0)).count(), 0);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_in_order_and_by_the_seed() {
        let schedule = Schedule::new(1000.0, Arrival::Poisson, 5, Duration::ZERO, Limit::Time(10 * SECOND));
        let moments: Vec<_> = schedule.clone().collect();
        assert!((9_600..10_400).contains(&moments.len()), "{}", moments.len());
        assert!(moments.is_sorted());
        assert!(schedule.eq(moments.iter().copied()));
        // Exponential gaps: about 1 in e is longer than the mean.
        let long = moments.windows(2).filter(|pair| pair[1] - pair[0] > SECOND / 1000).count();
        let share = long as f64 / moments.len() as f64;
        assert!((0.34..0.40).contains(&share), "{share}");
    }

    #[test]
    fn a_rate_below_one_a_second_is_a_long_gap() {
        let moments: Vec<_> = constant(0.5, Duration::ZERO, Limit::Requests(3)).collect();
        assert_eq!(moments, [Duration::ZERO, 2 * SECOND, 4 * SECOND]);
    }
}
