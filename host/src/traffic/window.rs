//! One step of a rollout: what was counted in it, and whether it is over.
//!
//! Owns when a step is judged. A canary is looked at each time that its requests have grown by a fifth,
//! not at each tick, and each look gets a smaller part of the chance that a good canary is rolled back:
//! so the whole rollout's chance stays bounded, however long it takes.

use super::arm::Sample;
use super::gates::{GateReading, GateState, judge};
use super::rollout::millis;
use crate::config::RolloutPolicy;

/// The chance that a canary which keeps to each limit exactly is taken for a bad one, in a whole rollout.
const CHANCE: f64 = 0.005;
/// The most gates.
const GATES: f64 = 4.0;
/// A step that is above a limit, yet not clearly so, waits for this many holds; then it failed.
const MOST_HOLDS: u64 = 10;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// One of the two is not ready: nothing counts.
    pub(super) interrupted: bool,
    /// What canary and stable version had counted when the step began.
    base: Option<(Sample, Sample)>,
    /// What the stable version counted in the steps before: it gets nothing in the last one.
    pub(super) stable_before: Option<Sample>,
    looks: u32,
    next_look: u64,
    /// How long the step had lasted when both had enough requests.
    enough_after: Option<u64>,
    /// How the gates stand.
    pub(super) readings: Vec<GateReading>,
    /// What the step waits for.
    pub(super) waits_for: String,
    /// Requests of canary and stable version that count.
    pub(super) requests: (u64, u64),
}

/// Attempts are compared by what is remembered of them.
impl PartialEq for Window {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What comes next.
pub(super) enum Verdict {
    /// The step goes on.
    Wait,
    /// The next step.
    Up,
    /// The canary is bad, for this reason.
    RollBack(String),
}

impl Window {
    /// A step that begins with the next judgement.
    pub(super) fn without_base(stable_before: Option<Sample>, interrupted: bool) -> Self {
        Self { interrupted, stable_before, ..Self::default() }
    }

    /// The step after this one, which begins now.
    pub(super) fn next(&self, canary: &Sample, stable: &Sample) -> Self {
        let stable_before = Some(self.stable_until_now(stable));
        Self { stable_before, base: Some((canary.clone(), stable.clone())), ..Self::default() }
    }

    /// Whether the last step would be judged without anything that the stable version did in those before.
    pub(super) fn has_nothing_to_compare(&self) -> bool {
        self.stable_before.is_none() && !self.interrupted
    }

    /// What the stable version counted in this step and those before.
    fn stable_until_now(&self, stable: &Sample) -> Sample {
        let here = self.base.as_ref().map_or_else(Sample::default, |(_, base)| stable.since(base));
        self.stable_before.as_ref().map_or_else(|| here.clone(), |before| before.plus(&here))
    }

    /// Judges the step: `held` milliseconds after it began, with what both have counted in all.
    pub(super) fn judge(
        &mut self,
        policy: &RolloutPolicy,
        last: bool,
        canary: &Sample,
        stable: &Sample,
        held: u64,
    ) -> Verdict {
        let Some((canary_base, stable_base)) = &self.base else {
            if last {
                // A rollout of one step has nothing to compare with but what the stable version did before.
                self.stable_before.get_or_insert_with(|| stable.clone());
            }
            self.base = Some((canary.clone(), stable.clone()));
            "the step has just begun".clone_into(&mut self.waits_for);
            return Verdict::Wait;
        };
        let canary = canary.since(canary_base);
        let stable = if last { self.stable_until_now(stable) } else { stable.since(stable_base) };
        self.requests = (canary.requests(), stable.requests());
        let enough = policy.gates.min_requests;
        let nothing_to_compare = last && stable.requests() < enough;
        let log_chance = self.log_chance(policy);
        self.readings = judge(&policy.gates, &canary, &stable, log_chance);
        if canary.requests() < enough || (stable.requests() < enough && !nothing_to_compare) {
            let (canary, stable) = self.requests;
            self.waits_for = format!("{enough} requests of each version (canary {canary}, stable {stable})");
            return Verdict::Wait;
        }
        if nothing_to_compare {
            // The last step of a rollout that has no step before, and no traffic before it either.
            self.readings.iter_mut().filter(|reading| reading.gate != "max_error_rate").for_each(|reading| {
                reading.state = GateState::Open;
            });
        }
        self.decide(policy, canary.requests(), held)
    }

    fn decide(&mut self, policy: &RolloutPolicy, requests: u64, held: u64) -> Verdict {
        let hold = millis(policy.hold);
        let since_enough = held.saturating_sub(*self.enough_after.get_or_insert(held));
        if requests >= self.next_look {
            self.looks += 1;
            self.next_look = requests + requests / 5 + 1;
            if let Some(failed) = self.readings.iter().find(|reading| reading.state == GateState::Failed) {
                return Verdict::RollBack(reason(policy, failed, self.requests));
            }
        }
        if held < hold {
            self.waits_for = format!("the end of the hold ({} of {})", seconds(held), seconds(hold));
            return Verdict::Wait;
        }
        let above = |reading: &&GateReading| matches!(reading.state, GateState::Exceeded | GateState::Failed);
        let Some(above) = self.readings.iter().find(above) else {
            return Verdict::Up;
        };
        let reason = reason(policy, above, self.requests);
        if since_enough >= hold.saturating_mul(MOST_HOLDS) {
            return Verdict::RollBack(format!("{reason}, for {MOST_HOLDS} holds"));
        }
        self.waits_for = format!("more requests: {reason}, perhaps by chance");
        Verdict::Wait
    }

    /// The logarithm of this look's part of the chance; all parts together are the whole.
    fn log_chance(&self, policy: &RolloutPolicy) -> f64 {
        let look = f64::from(self.looks) + 1.0;
        let parts = policy.steps.len().max(1) as f64 * GATES * look * (look + 1.0);
        (CHANCE / parts).ln()
    }
}

fn seconds(millis: u64) -> String {
    format!("{}s", millis / 1000)
}

fn reason(policy: &RolloutPolicy, reading: &GateReading, (canary, stable): (u64, u64)) -> String {
    let measured = reading.measured.unwrap_or_default();
    let text = match reading.gate {
        "max_error_rate" => {
            format!("error rate {:.2}% is above max_error_rate {}%", measured * 100.0, reading.limit * 100.0)
        }
        "error_ratio" => {
            format!("errors are {measured:.2} times those of stable, above error_ratio {}", reading.limit)
        }
        "refusal_ratio" => {
            format!("refusals are {measured:.2} times those of stable, above refusal_ratio {}", reading.limit)
        }
        _ => format!(
            "latency at {} is {measured:.2} times that of stable, above latency_ratio {}",
            policy.gates.latency_quantile, reading.limit
        ),
    };
    format!("{text} ({canary} requests, stable {stable})")
}
