//! What the strategies find out, with truths that are planted.
//!
//! Run with `--nocapture` for the figures that docs/traffic.md states; the ignored tests are the long ones.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::super::{EventKind, Outcome, Traffic};
use super::{at, policy, traffic};
use crate::config::Labels;

/// Requests between two ticks, at one tick a second.
const PER_SECOND: u64 = 50;

/// Serves one second of a bandit with these chances of a reward, in the order of arms a and b.
fn second(traffic: &Traffic, chances: [f64; 2], now: u64, random: &mut SmallRng) {
    for _ in 0..PER_SECOND {
        let choice = traffic.choose(None, random.random()).unwrap();
        let chance = if &**choice.arm.name() == "a" { chances[0] } else { chances[1] };
        let reward = if random.random::<f64>() < chance { 1.0 } else { 0.0 };
        traffic.feedback(choice.arm.name(), reward).unwrap();
    }
    traffic.tick(at(now));
}

fn share_of(traffic: &Traffic, arm: &str) -> f64 {
    traffic.status().arms.iter().find(|one| one.name == arm).map_or(0.0, |arm| arm.share)
}

/// Requests until arm a has more than 90 % for ten seconds on end.
fn requests_until_found(chances: [f64; 2], seed: u64) -> Option<u64> {
    let traffic = traffic("{strategy: bandit, arms: {a: {version: '1'}, b: {version: '2'}}}", &["1", "2"]);
    let mut random = SmallRng::seed_from_u64(seed);
    let mut since = 0;
    for now in 1..4000 {
        second(&traffic, chances, now, &mut random);
        match share_of(&traffic, "a") > 0.9 {
            true if now - since >= 10 => return Some(now * PER_SECOND),
            true => {}
            false => since = now,
        }
    }
    None
}

fn found(chances: [f64; 2], runs: u64) -> (u64, u64) {
    let mut all: Vec<u64> =
        (0..runs).map(|seed| requests_until_found(chances, seed).unwrap_or(u64::MAX)).collect();
    all.sort_unstable();
    (all[all.len() / 2], all[all.len() * 95 / 100])
}

#[test]
fn a_bandit_finds_the_better_arm() {
    for (chances, limit) in [([0.6, 0.5], 6_000), ([0.6, 0.3], 1_500), ([0.9, 0.1], 1_000)] {
        let (median, most) = found(chances, 20);
        eprintln!("bandit {chances:?}: 90 % found after {median} requests (median), {most} (95 %)");
        assert!(most <= limit, "{chances:?}: {most}");
    }
}

#[test]
#[ignore = "the figures of docs/traffic.md"]
fn figures_of_bandits() {
    for chances in [[0.6, 0.5], [0.6, 0.55], [0.6, 0.3], [0.9, 0.1], [0.05, 0.04]] {
        let (median, most) = found(chances, 100);
        eprintln!("bandit {chances:?}: {median} requests (median), {most} (95 %)");
    }
}

#[test]
fn a_bandit_follows_a_change() {
    let text = "{strategy: bandit, half_life: 30s, arms: {a: {version: '1'}, b: {version: '2'}}}";
    let traffic = traffic(text, &["1", "2"]);
    let mut random = SmallRng::seed_from_u64(1);
    (1..200).for_each(|now| second(&traffic, [0.8, 0.4], now, &mut random));
    assert!(share_of(&traffic, "a") > 0.9);
    let found = (200..1000).find(|now| {
        second(&traffic, [0.4, 0.8], *now, &mut random);
        share_of(&traffic, "b") > 0.9
    });
    let seconds = found.unwrap() - 200;
    eprintln!("bandit: a change is followed after {seconds} s with half_life 30s");
    assert!(seconds < 180);
}

/// An arm that is quick in failing is not a quick arm.
#[test]
fn a_bandit_of_latency_finds_the_quicker_arm_and_is_not_fooled_by_failures() {
    for (failures, better) in [(0.0, "b"), (0.8, "a")] {
        let text = "{strategy: bandit, reward: latency, arms: {a: {version: '1'}, b: {version: '2'}}}";
        let traffic = traffic(text, &["1", "2"]);
        let mut random = SmallRng::seed_from_u64(7);
        for now in 1..60 {
            for _ in 0..PER_SECOND {
                let choice = traffic.choose(None, random.random()).unwrap();
                let slow = if &**choice.arm.name() == "a" { 1.5 } else { 1.0 };
                // Exponentially distributed: latencies have long tails.
                let took = Duration::from_secs_f64(slow * 0.01 * -(1.0 - random.random::<f64>()).ln());
                let fails = slow == 1.0 && random.random::<f64>() < failures;
                choice.arm.finished(if fails { Outcome::Failed } else { Outcome::Answered }, took);
            }
            traffic.tick(at(now));
        }
        assert!(share_of(&traffic, better) > 0.9, "{failures}: {:?}", traffic.status());
    }
}

#[test]
fn a_bandit_of_errors_leaves_its_floor_to_the_worse_arm() {
    let text =
        "{strategy: bandit, reward: errors, min_share: 5%, arms: {a: {version: '1'}, b: {version: '2'}}}";
    let traffic = traffic(text, &["1", "2"]);
    let mut random = SmallRng::seed_from_u64(3);
    for now in 1..60 {
        for _ in 0..PER_SECOND {
            let choice = traffic.choose(None, random.random()).unwrap();
            let fails = &**choice.arm.name() == "b" && random.random::<f64>() < 0.2;
            choice.arm.finished(if fails { Outcome::Failed } else { Outcome::Answered }, Duration::ZERO);
        }
        traffic.tick(at(now));
    }
    assert!((share_of(&traffic, "b") - 0.05).abs() < 0.005, "{:?}", traffic.status());
}

/// How a rollout ends, with this many requests a second, and how many the canary got.
struct End {
    promoted: bool,
    requests: u64,
    seconds: u64,
    reason: String,
}

struct Truth {
    stable_errors: f64,
    canary_errors: f64,
    /// How many times as long the canary takes.
    slower: f64,
}

fn rollout(steps: &str, truth: &Truth, per_second: u64, seed: u64) -> End {
    let text = format!("{{strategy: rollout, stable: '1', canary: '2', steps: {steps}, hold: 30s}}");
    let traffic = Traffic::new("m", policy(&text), Labels::new(), None);
    traffic.versions_changed(&super::ready(&["1", "2"]), at(0));
    let mut random = SmallRng::seed_from_u64(seed);
    let mut requests = 0;
    for now in 1..5000 {
        for _ in 0..per_second {
            let choice = traffic.choose(None, random.random()).unwrap();
            let canary = &**choice.arm.name() == "canary";
            let (errors, times) =
                if canary { (truth.canary_errors, truth.slower) } else { (truth.stable_errors, 1.0) };
            requests += u64::from(canary);
            let took = Duration::from_secs_f64(times * (0.002 - 0.003 * (1.0 - random.random::<f64>()).ln()));
            let fails = random.random::<f64>() < errors;
            choice.arm.finished(if fails { Outcome::Failed } else { Outcome::Answered }, took);
        }
        for event in traffic.tick(at(now)) {
            if matches!(event.kind, EventKind::Promoted | EventKind::RolledBack) {
                let promoted = event.kind == EventKind::Promoted;
                return End { promoted, requests, seconds: now, reason: event.reason };
            }
        }
    }
    panic!("no end: {:?}", traffic.status());
}

#[test]
fn a_canary_that_fails_on_a_fifth_is_rolled_back_at_each_step() {
    let truth = Truth { stable_errors: 0.001, canary_errors: 0.2, slower: 1.0 };
    for steps in ["[1%, 100%]", "[10%, 100%]", "[50%, 100%]", "[100%]"] {
        let ends: Vec<End> = (0..20).map(|seed| rollout(steps, &truth, 500, seed)).collect();
        let most = ends.iter().map(|end| end.requests).max().unwrap();
        eprintln!("20 % failures, {steps}: rolled back after at most {most} requests of the canary");
        assert!(ends.iter().all(|end| !end.promoted), "{steps}");
        // Without a stable version's share, what was before is compared; here nothing was.
        assert!(most <= 1000, "{steps}: {most}");
    }
}

fn false_rollbacks(runs: u64, errors: f64) -> u64 {
    let truth = Truth { stable_errors: errors, canary_errors: errors, slower: 1.0 };
    let ends = (0..runs).map(|seed| rollout("[1%, 10%, 50%, 100%]", &truth, 400, seed));
    let mut bad = 0;
    let mut seconds = 0;
    for end in ends {
        seconds += end.seconds;
        if !end.promoted {
            bad += 1;
            eprintln!("rolled back after {} s: {}", end.seconds, end.reason);
        }
    }
    eprintln!("equal canary, {errors} errors: {bad} of {runs} rolled back, {} s in the mean", seconds / runs);
    bad
}

#[test]
fn an_equal_canary_is_promoted() {
    assert_eq!(false_rollbacks(10, 0.003), 0);
}

#[test]
#[ignore = "the figures of docs/traffic.md"]
fn figures_of_rollouts() {
    for errors in [0.0, 0.003, 0.005] {
        let bad = false_rollbacks(1000, errors);
        assert!(bad < 10, "{bad}");
    }
    for slower in [1.1, 1.3, 1.5, 2.0] {
        let truth = Truth { stable_errors: 0.001, canary_errors: 0.001, slower };
        let ends: Vec<End> = (0..50).map(|seed| rollout("[1%, 10%, 50%, 100%]", &truth, 400, seed)).collect();
        let bad = ends.iter().filter(|end| !end.promoted).count();
        let requests = ends.iter().map(|end| end.requests).sum::<u64>() / 50;
        eprintln!(
            "{slower} times as slow: {bad} of 50 rolled back, {requests} requests of the canary in the mean"
        );
    }
}
