//! When Redis is asked, and when it is tried again.
//!
//! Owns a pure state machine: the time is handed in, and nothing here waits. It is closed while a connection
//! serves, open while there is none to ask, and probing while one is being made. There is no other way to a
//! connection, so that a server that hangs, one that is away and one that was never there are the same case.
//! What is told of a connection that has been replaced counts for nothing.

use std::time::{Duration, Instant};

/// Failures in a row after which the server is not asked any more.
const FAILURES: u32 = 3;
/// The pause before the second try; the first one comes at once.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that served this long was a good one: after it, pauses begin anew.
const STEADY: Duration = Duration::from_secs(10);
/// The least time between two connections made because the server may be the wrong one.
const RENEWAL: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    state: State,
    /// Of the connection that serves; 0 before the first one.
    number: u64,
    failures: u32,
    pause: Duration,
    renewed: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { since: Instant },
    Open { probe_at: Instant },
    Probing,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing, until something is told.
    Rest,
    /// Make a connection, not before this time.
    Probe(Instant),
}

impl Breaker {
    /// Without a connection; the first one is to be made at once.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: State::Open { probe_at: now },
            number: 0,
            failures: 0,
            pause: Duration::ZERO,
            renewed: None,
        }
    }

    /// Whether the server is asked.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// What is to be done.
    pub(super) fn next(&self) -> Next {
        match self.state {
            State::Open { probe_at } => Next::Probe(probe_at),
            State::Closed { .. } | State::Probing => Next::Rest,
        }
    }

    /// The connection of this number was answered by the server.
    pub(super) fn answered(&mut self, number: u64) {
        if number == self.number {
            self.failures = 0;
        }
    }

    /// The connection of this number was not answered. True if that opens the breaker.
    pub(super) fn failed(&mut self, number: u64, now: Instant) -> bool {
        if number != self.number || !self.is_closed() {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.failures >= FAILURES && self.lost(number, now)
    }

    /// The connection of this number is of no use any more. True if that opens the breaker.
    pub(super) fn lost(&mut self, number: u64, now: Instant) -> bool {
        let State::Closed { since } = self.state else { return false };
        if number != self.number {
            return false;
        }
        if now.saturating_duration_since(since) >= STEADY {
            self.pause = Duration::ZERO;
        }
        self.state = State::Open { probe_at: now + self.pause };
        self.failures = 0;
        true
    }

    /// Whether the connection of this number is to be replaced while it goes on serving; at most once in a while.
    pub(super) fn renews(&mut self, number: u64, now: Instant) -> bool {
        let is_due = self.renewed.is_none_or(|last| now.saturating_duration_since(last) >= RENEWAL);
        let is_due = is_due && number == self.number && self.is_closed();
        if is_due {
            self.renewed = Some(now);
        }
        is_due
    }

    /// A connection is being made.
    pub(super) fn probes(&mut self) {
        if let State::Open { .. } = self.state {
            self.state = State::Probing;
        }
    }

    /// A connection has been made, or put in place of the one that serves. Returns its number.
    pub(super) fn connected(&mut self, now: Instant) -> u64 {
        if !self.is_closed() {
            self.state = State::Closed { since: now };
            // For the case that it does not last.
            self.pause = longer(self.pause);
        }
        self.number += 1;
        self.failures = 0;
        self.number
    }

    /// None could be made.
    pub(super) fn refused(&mut self, now: Instant) {
        if self.state == State::Probing {
            self.pause = longer(self.pause);
            self.state = State::Open { probe_at: now + self.pause };
        }
    }
}

/// The pause after this one.
pub(super) fn longer(pause: Duration) -> Duration {
    (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn connected(now: Instant) -> (Breaker, u64) {
        let mut breaker = Breaker::new(now);
        breaker.probes();
        let number = breaker.connected(now);
        (breaker, number)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_not_before() {
        let now = Instant::now();
        let (mut breaker, number) = connected(now);
        assert!(!breaker.failed(number, now) && !breaker.failed(number, now));
        breaker.answered(number);
        assert!(!breaker.failed(number, now) && !breaker.failed(number, now) && breaker.is_closed());
        assert!(breaker.failed(number, now) && !breaker.is_closed());
        assert!(!breaker.failed(number, now), "it opens once");
    }

    #[test]
    fn pauses_grow_up_to_a_bound_and_begin_anew_after_a_steady_connection() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(now);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let Next::Probe(at) = breaker.next() else { panic!("it is closed") };
            pauses.push(at.saturating_duration_since(now).as_millis());
            now = at;
            breaker.probes();
            breaker.refused(now);
        }
        assert_eq!(pauses, [0, 50, 100, 200, 400, 800, 1000, 1000, 1000]);
        breaker.probes();
        let number = breaker.connected(now);
        assert!(breaker.lost(number, now + STEADY));
        assert_eq!(breaker.next(), Next::Probe(now + STEADY));
    }

    #[test]
    fn a_server_that_breaks_each_connection_is_tried_ever_less_often() {
        let mut now = Instant::now();
        let (mut breaker, mut number) = connected(now);
        for pause in [50, 100, 200, 400, 800, 1000, 1000, 1000] {
            assert!(breaker.lost(number, now));
            let Next::Probe(at) = breaker.next() else { panic!("it is closed") };
            assert_eq!(at.saturating_duration_since(now).as_millis(), pause);
            now = at;
            breaker.probes();
            number = breaker.connected(now);
        }
    }

    #[test]
    fn what_is_told_of_a_replaced_connection_counts_for_nothing() {
        let now = Instant::now();
        let (mut breaker, old) = connected(now);
        let new = breaker.connected(now);
        assert!(!breaker.lost(old, now) && (0..9).all(|_| !breaker.failed(old, now)));
        assert!(!breaker.renews(old, now) && breaker.renews(new, now) && !breaker.renews(new, now));
        assert!(breaker.renews(new, now + RENEWAL));
        assert!(breaker.is_closed());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Answered(u64),
        Failed(u64),
        Lost(u64),
        Renews(u64),
        Probe(bool),
        Wait(u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let age = 0..3_u64;
        let step = prop_oneof![
            age.clone().prop_map(Step::Answered),
            age.clone().prop_map(Step::Failed),
            age.clone().prop_map(Step::Lost),
            age.prop_map(Step::Renews),
            any::<bool>().prop_map(Step::Probe),
            any::<u16>().prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn in_any_history_it_asks_only_over_a_good_connection_and_never_gives_up(steps in steps()) {
            let mut now = Instant::now();
            let mut breaker = Breaker::new(now);
            let (mut number, mut in_a_row) = (0, 0);
            for step in steps {
                let was_closed = breaker.is_closed();
                match step {
                    Step::Answered(age) => {
                        breaker.answered(number - age.min(number));
                        if age.min(number) == 0 { in_a_row = 0; }
                    }
                    Step::Failed(age) => {
                        let opened = breaker.failed(number - age.min(number), now);
                        in_a_row += u32::from(age.min(number) == 0 && was_closed);
                        prop_assert_eq!(opened, was_closed && age.min(number) == 0 && in_a_row >= FAILURES);
                    }
                    Step::Lost(age) => {
                        let opened = breaker.lost(number - age.min(number), now);
                        prop_assert_eq!(opened, was_closed && age.min(number) == 0);
                    }
                    Step::Renews(age) => {
                        if breaker.renews(number - age.min(number), now) {
                            let fresh = breaker.connected(now);
                            prop_assert!(was_closed && fresh == number + 1);
                            (number, in_a_row) = (fresh, 0);
                        }
                    }
                    Step::Probe(works) => {
                        if let Next::Probe(at) = breaker.next() {
                            prop_assert!(at.saturating_duration_since(now) <= LONGEST_PAUSE);
                            now = now.max(at);
                            breaker.probes();
                            prop_assert_eq!(breaker.next(), Next::Rest);
                            match works {
                                true => (number, in_a_row) = (breaker.connected(now), 0),
                                false => breaker.refused(now),
                            }
                            prop_assert_eq!(breaker.is_closed(), works);
                        }
                    }
                    Step::Wait(millis) => now += Duration::from_millis(millis.into()),
                }
                // Either it serves, or a time is set at which it is tried again.
                prop_assert_eq!(breaker.is_closed(), breaker.next() == Next::Rest);
                if !breaker.is_closed() { in_a_row = 0; }
            }
        }
    }
}
