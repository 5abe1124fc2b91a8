//! Whether a canary does worse than it may.
//!
//! Owns the four gates and their statistics, which are pure: two samples and limits in, a judgement out.
//! There are three answers for each gate, not two. What is measured is within the limit, or it is above
//! it by more than chance explains (then the canary is rolled back at once), or it is above it and may be
//! chance (then the step waits for more requests). Chance is bounded by Chernoff's inequality for the
//! binomial distribution: the probability of `x` or more hits of `n` where a part `p` is expected is at
//! most `exp(-n·KL(x/n, p))`. It needs no assumption about how latencies are distributed.

use serde::Serialize;

use super::arm::Sample;
use crate::config::Gates;

/// How one gate stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateReading {
    /// The gate's key in `model.yaml`.
    pub gate: &'static str,
    /// What it allows.
    pub limit: f64,
    /// What is measured; `None` before there is anything to measure.
    pub measured: Option<f64>,
    /// How it stands.
    pub state: GateState,
}

/// How a gate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GateState {
    /// Within the limit.
    Kept,
    /// Above the limit, perhaps by chance.
    Exceeded,
    /// Above the limit, and not by chance.
    Failed,
    /// There is nothing to compare with.
    Open,
}

/// Judges each gate. `log_chance` is the logarithm of the probability that is put up with of failing a
/// canary that keeps to a limit exactly.
pub(super) fn judge(gates: &Gates, canary: &Sample, stable: &Sample, log_chance: f64) -> Vec<GateReading> {
    let mut readings = Vec::new();
    if let Some(limit) = gates.max_error_rate {
        readings.push(error_rate(limit.fraction(), canary, log_chance));
    }
    if let Some(limit) = gates.error_ratio {
        let (canary, stable) = (hits(canary.failed, canary), hits(stable.failed, stable));
        readings.push(ratio("error_ratio", limit.get(), canary, stable, log_chance));
    }
    if let Some(limit) = gates.refusal_ratio {
        let (canary, stable) = (hits(canary.refused, canary), hits(stable.refused, stable));
        readings.push(ratio("refusal_ratio", limit.get(), canary, stable, log_chance));
    }
    if let Some(limit) = gates.latency_ratio {
        let quantile = gates.latency_quantile.fraction();
        let slack = gates.latency_slack.as_nanos() as f64;
        readings.push(latency_ratio((limit.get(), slack), quantile, canary, stable, log_chance));
    }
    readings
}

fn error_rate(limit: f64, canary: &Sample, log_chance: f64) -> GateReading {
    let (failed, requests) = (canary.failed as f64, canary.requests() as f64);
    let measured = (requests > 0.0).then(|| failed / requests);
    let certain = log_tail(failed, requests, limit) < log_chance;
    reading("max_error_rate", limit, measured, certain)
}

/// So many of so many requests.
fn hits(hits: u64, of: &Sample) -> (f64, f64) {
    (hits as f64, of.requests() as f64)
}

/// The stable version counts as if it had one hit more: a single one of the canary is none of ratio infinity.
/// For the test, given all hits of both, the canary's part of them is binomial.
fn ratio(
    gate: &'static str,
    limit: f64,
    (hits, requests): (f64, f64),
    (stable_hits, stable_requests): (f64, f64),
    log_chance: f64,
) -> GateReading {
    let both = requests > 0.0 && stable_requests > 0.0;
    let measured = both.then(|| (hits / requests) / ((stable_hits + 1.0) / (stable_requests + 1.0)));
    let expected = requests * limit / (requests * limit + stable_requests);
    let certain = both && log_tail(hits, hits + stable_hits, expected) < log_chance;
    reading(gate, limit, measured, certain)
}

/// For the test, the stable version's quantile is taken as high as chance allows; the canary may exceed
/// the limit times that as often as the quantile says. A difference within the slack is none: a version that gets
/// few requests has colder caches than one that gets many, which tells where a request takes microseconds.
fn latency_ratio(
    (limit, slack): (f64, f64),
    part: f64,
    canary: &Sample,
    stable: &Sample,
    log_chance: f64,
) -> GateReading {
    let quantiles = canary.latency.quantile(part).zip(stable.latency.quantile(part));
    let measured = quantiles.map(|(canary, stable)| canary / stable.max(1.0));
    if quantiles.is_some_and(|(canary, stable)| canary <= stable + slack) {
        let state = GateState::Kept;
        return GateReading { gate: "latency_ratio", limit, measured, state };
    }
    // Half of the chance for each of the two samples.
    let log_chance = log_chance - std::f64::consts::LN_2;
    let certain = upper_bound(stable, part, log_chance).is_some_and(|bound| {
        let (above, all) =
            (canary.latency.above((bound * limit).max(bound + slack)) as f64, canary.latency.count() as f64);
        log_tail(above, all, 1.0 - part) < log_chance
    });
    reading("latency_ratio", limit, measured, certain)
}

fn reading(gate: &'static str, limit: f64, measured: Option<f64>, certain: bool) -> GateReading {
    let state = match measured {
        None => GateState::Open,
        Some(measured) if measured <= limit => GateState::Kept,
        Some(_) if certain => GateState::Failed,
        Some(_) => GateState::Exceeded,
    };
    GateReading { gate, limit, measured, state }
}

/// A value that the quantile is above with no more than the given chance, in nanoseconds.
fn upper_bound(sample: &Sample, part: f64, log_chance: f64) -> Option<f64> {
    let all = sample.latency.count();
    let (mut low, mut high) = ((part * all as f64) as u64, all);
    if log_tail(all as f64, all as f64, part) >= log_chance {
        return None;
    }
    // The least rank that is reached with no more than that chance.
    while low < high {
        let middle = low + (high - low) / 2;
        match log_tail(middle as f64, all as f64, part) < log_chance {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    sample.latency.at_most(high)
}

/// The logarithm of a bound on the probability of `hits` or more of `all` where a part is expected.
fn log_tail(hits: f64, all: f64, part: f64) -> f64 {
    if all <= 0.0 || hits <= all * part {
        return 0.0;
    }
    let (seen, rest) = (hits / all, 1.0 - hits / all);
    let of_rest = if rest > 0.0 { rest * (rest / (1.0 - part)).ln() } else { 0.0 };
    -all * (seen * (seen / part).ln() + of_rest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::arm::{Arm, Outcome};
    use super::*;

    fn sample(answered: u64, failed: u64, micros: impl Fn(u64) -> u64) -> Sample {
        let arm = Arm::new("a", "1", "", "a");
        (0..answered).for_each(|at| arm.finished(Outcome::Answered, Duration::from_micros(10 * micros(at))));
        (0..failed).for_each(|_| arm.finished(Outcome::Failed, Duration::ZERO));
        arm.sample()
    }

    fn states(canary: &Sample, stable: &Sample) -> Vec<GateState> {
        judge(&Gates::default(), canary, stable, 1e-4_f64.ln()).iter().map(|reading| reading.state).collect()
    }

    #[test]
    fn the_bound_is_above_the_exact_tail() {
        // P(X >= k) of a binomial distribution with n = 20 and p = 0.3.
        let (all, part) = (20_u32, 0.3_f64);
        let mut probability = (1.0 - part).powi(20);
        let mut below = 0.0;
        for hits in 0..=all {
            let exact = 1.0 - below;
            let bound = log_tail(f64::from(hits), f64::from(all), part).exp();
            assert!(bound >= exact - 1e-12, "{hits}: {bound} < {exact}");
            below += probability;
            probability *= f64::from(all - hits) / f64::from(hits + 1) * part / (1.0 - part);
        }
    }

    #[test]
    fn blatant_faults_fail_and_small_ones_wait() {
        use GateState::{Exceeded, Failed, Kept};
        let even = |at| 1000 + at % 50;
        let stable = sample(1000, 2, even);
        assert_eq!(states(&sample(100, 0, even), &stable), [Kept, Kept, Kept, Kept]);
        assert_eq!(states(&sample(80, 20, even), &stable), [Failed, Failed, Kept, Kept]);
        assert_eq!(states(&sample(98, 2, even), &stable)[0], Exceeded);
        assert_eq!(states(&sample(100, 0, |at| 2 * even(at)), &stable), [Kept, Kept, Kept, Failed]);
        // One slow request of ten.
        let tail = |at| if at % 10 == 0 { 9000 } else { 1000 };
        assert_eq!(states(&sample(1000, 0, tail), &stable)[3], Failed);
        assert_eq!(states(&sample(19, 0, tail), &stable)[3], Exceeded);
    }

    #[test]
    fn a_canary_that_refuses_more_than_the_stable_version_fails() {
        let refusing = |refused: u64| Sample { refused, ..sample(100, 0, |_| 1000) };
        assert_eq!(states(&refusing(25), &refusing(25))[2], GateState::Kept);
        assert_eq!(states(&refusing(80), &refusing(0))[2], GateState::Failed);
        assert_eq!(states(&refusing(3), &refusing(0))[2], GateState::Exceeded);
    }

    #[test]
    fn without_anything_to_compare_with_a_gate_stays_open() {
        use GateState::{Kept, Open};
        let (none, some) = (Sample::default(), sample(100, 0, |_| 1000));
        assert_eq!(states(&none, &some), [Open, Open, Open, Open]);
        assert_eq!(states(&some, &none), [Kept, Open, Open, Open]);
    }
}
