//! Which arm earns more: Thompson sampling over what arms have shown.
//!
//! Owns what is believed of each arm, its forgetting, and the shares that follow. What hosts that share a store
//! have seen is kept apart, host by host: each of them alone writes its part, the later text of a part stands
//! for the earlier one, and beliefs are the sum of all parts, each faded to now. So nothing counts twice, and
//! nothing that was seen is lost with a message. A share is the
//! probability that the arm is the best one, found by drawing from all beliefs and counting who wins,
//! and never less than the floor. It is found at each tick, not for each request: a request then costs
//! no more than with fixed weights. Draws come from a sequence that is the same in every run.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Beta, Distribution, StudentT};
use serde::{Deserialize, Serialize};

use super::arm::{Arm, Sums};
use super::event::{Event, EventKind};
use crate::config::{BanditPolicy, Reward};

/// Draws for each tick; shares are known to about 1 %.
const DRAWS: u32 = 4096;
/// The share from which on an arm is told to lead.
const LEADS: f64 = 0.6;

/// Parts of other hosts that are kept, those that weigh most.
const MOST_PARTS: usize = 64;
/// A part that weighs less than this many requests says nothing any more.
const LEAST_WEIGHT: f64 = 0.01;
/// Arms that a part may tell of.
const MOST_ARMS: usize = 1024;

/// What is believed of the arms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Bandit {
    /// What this host has seen itself.
    own: Vec<Belief>,
    /// The name that others know this host's part by; `None` as long as nobody does.
    source: Option<String>,
    /// What others have seen, and what this host has under names that it had before.
    parts: BTreeMap<String, Part>,
    /// When it was last looked at, in milliseconds since 1970.
    at: Option<u64>,
    /// All of it together.
    #[serde(skip)]
    pub(super) beliefs: Vec<Belief>,
    #[serde(skip)]
    ticks: u64,
    #[serde(skip)]
    leader: Option<String>,
}

/// What one host has seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Part {
    /// The moment that its counts have faded to, in milliseconds since 1970.
    at: u64,
    beliefs: Vec<Belief>,
}

impl Part {
    /// How many requests it still stands for.
    fn weight(&self, policy: &BanditPolicy, now: u64) -> f64 {
        let all: f64 = self.beliefs.iter().map(|belief| belief.good + belief.bad + belief.count).sum();
        all * kept(policy, self.at, now)
    }

    /// Numbers that no host counts are nobody's.
    fn is_sound(&self) -> bool {
        let sound = |number: f64| (0.0..1e18).contains(&number);
        let sounds = |belief: &Belief| {
            [belief.good, belief.bad, belief.count, belief.mean].into_iter().all(sound)
                && belief.squares.is_finite()
                && belief.squares >= 0.0
        };
        self.beliefs.len() <= MOST_ARMS && self.beliefs.iter().all(sounds)
    }
}

/// What is left of a count from then.
fn kept(policy: &BanditPolicy, then: u64, now: u64) -> f64 {
    0.5_f64.powf(now.saturating_sub(then) as f64 / policy.half_life.as_millis().max(1) as f64)
}

/// What is believed of one arm. Counts are weighted: the older, the less.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Belief {
    pub(super) arm: String,
    pub(super) version: String,
    digest: String,
    /// Rewards earned, or requests answered.
    pub(super) good: f64,
    /// Rewards missed, or requests failed.
    pub(super) bad: f64,
    /// Answers whose latency is known.
    pub(super) count: f64,
    /// Their mean latency in microseconds.
    pub(super) mean: f64,
    /// The sum of the squared distances from that mean.
    pub(super) squares: f64,
    #[serde(skip)]
    seen: Sums,
    /// Of which arm that was: one of the same name that came later counts from 0.
    #[serde(skip)]
    seen_of: u64,
    /// The share that follows.
    #[serde(skip)]
    pub(super) share: f64,
}

impl Belief {
    fn new(arm: &Arm) -> Self {
        Self {
            arm: arm.name().to_string(),
            version: arm.version().to_string(),
            digest: arm.digest().to_owned(),
            seen: arm.sums(),
            seen_of: arm.serial(),
            ..Self::default()
        }
    }

    fn is_of(&self, arm: &Arm) -> bool {
        *self.arm == **arm.name() && *self.version == **arm.version() && self.digest == arm.digest()
    }

    /// Adds what another host believes of the same arm, of which so much is left.
    fn add(&mut self, other: &Self, kept: f64) {
        self.good += other.good * kept;
        self.bad += other.bad * kept;
        self.add_latencies(other.count * kept, other.mean, other.squares * kept);
    }

    fn add_latencies(&mut self, count: f64, mean: f64, squares: f64) {
        if count <= 0.0 {
            return;
        }
        let (apart, all) = (mean - self.mean, self.count + count);
        self.squares += squares.max(0.0) + apart * apart * self.count * count / all;
        self.mean += apart * count / all;
        self.count = all;
    }

    fn forget(&mut self, kept: f64) {
        for sum in [&mut self.good, &mut self.bad, &mut self.count, &mut self.squares] {
            *sum *= kept;
        }
    }

    fn learn(&mut self, reward: Reward, now: Sums) {
        let seen = std::mem::replace(&mut self.seen, now);
        let answered = now.answered.wrapping_sub(seen.answered) as f64;
        match reward {
            Reward::Feedback => {
                let count = now.rewards.count.wrapping_sub(seen.rewards.count) as f64;
                let earned = (now.rewards.sum - seen.rewards.sum).clamp(0.0, count);
                self.good += earned;
                self.bad += count - earned;
            }
            Reward::Errors | Reward::Latency => {
                self.good += answered;
                let failed = now.failed.wrapping_sub(seen.failed);
                self.bad += failed.wrapping_add(now.refused.wrapping_sub(seen.refused)) as f64;
            }
        }
        if reward == Reward::Latency && answered > 0.0 {
            let mean = now.micros.wrapping_sub(seen.micros) as f64 / answered;
            let squares =
                now.squared_micros.wrapping_sub(seen.squared_micros) as f64 - answered * mean * mean;
            self.add_latencies(answered, mean, squares);
        }
    }
}

impl Bandit {
    /// Keeps beliefs of the arms that the policy names, those included whose version is away; an arm that is
    /// new starts with none.
    pub(super) fn keep(&mut self, policy: &BanditPolicy, arms: &[Arc<Arm>], names: &[&str]) {
        self.own.retain(|belief| names.contains(&belief.arm.as_str()));
        for arm in arms {
            if self.own.iter().any(|belief| belief.is_of(arm)) {
                continue;
            }
            // Other content or another version under the same name: nothing is known of it.
            self.own.retain(|belief| *belief.arm != **arm.name());
            self.own.push(Belief::new(arm));
        }
        self.join_parts(policy);
    }

    /// Learns what the arms have shown since the last time and finds the shares anew.
    pub(super) fn tick(&mut self, policy: &BanditPolicy, arms: &[Arc<Arm>], now: u64) -> Option<Event> {
        let kept = kept(policy, self.at.replace(now).unwrap_or(now), now);
        for belief in &mut self.own {
            belief.forget(kept);
            if let Some(arm) = arms.iter().find(|arm| belief.is_of(arm)) {
                if std::mem::replace(&mut belief.seen_of, arm.serial()) != arm.serial() {
                    belief.seen = Sums::default();
                }
                belief.learn(policy.reward, arm.sums());
            }
        }
        self.parts.retain(|_, part| part.weight(policy, now) > LEAST_WEIGHT);
        while self.parts.len() > MOST_PARTS {
            let weights = self.parts.iter().map(|(name, part)| (part.weight(policy, now), name));
            let Some(lightest) = weights.min_by(|(left, _), (right, _)| left.total_cmp(right)) else {
                break;
            };
            let lightest = lightest.1.clone();
            self.parts.remove(&lightest);
        }
        self.join_parts(policy);
        self.ticks += 1;
        self.find_shares(policy);
        self.new_leader()
    }

    /// Adds up what was seen here and elsewhere; shares stay as they are.
    fn join_parts(&mut self, policy: &BanditPolicy) {
        let now = self.at.unwrap_or_default();
        let mut beliefs = self.own.clone();
        for belief in &mut beliefs {
            let is_same = |other: &&Belief| {
                (&other.arm, &other.version, &other.digest) == (&belief.arm, &belief.version, &belief.digest)
            };
            belief.share = self.beliefs.iter().find(is_same).map_or(0.0, |before| before.share);
            let of_part = |part: &Part| {
                let other = part.beliefs.iter().find(is_same)?.clone();
                Some((other, kept(policy, part.at, now)))
            };
            let others: Vec<(Belief, f64)> = self.parts.values().filter_map(of_part).collect();
            others.iter().for_each(|(other, kept)| belief.add(other, *kept));
        }
        self.beliefs = beliefs;
    }

    /// What this host has seen itself, for others to know by this name; `None` if that is nothing yet. What was
    /// known by another name before stays under that one: others may still have it.
    pub(super) fn published_as(&mut self, source: &str) -> Option<Part> {
        let at = self.at?;
        if self.source.as_deref() != Some(source)
            && let Some(before) = self.source.replace(source.to_owned())
        {
            self.parts.insert(before, Part { at, beliefs: self.own.clone() });
            for belief in &mut self.own {
                (belief.good, belief.bad) = (0.0, 0.0);
                (belief.count, belief.mean, belief.squares) = (0.0, 0.0, 0.0);
            }
        }
        Some(Part { at, beliefs: self.own.clone() })
    }

    /// Takes note of another host's part. An earlier text of it than the one that is known says nothing.
    pub(super) fn learn_from(&mut self, source: &str, part: &Part, now: u64) {
        let known = self.parts.get(source).is_some_and(|known| known.at >= part.at);
        if known || self.source.as_deref() == Some(source) || !part.is_sound() {
            return;
        }
        // A clock that runs ahead must not have its host's part stay for longer.
        self.parts.insert(source.to_owned(), Part { at: part.at.min(now), ..part.clone() });
    }

    /// Finds the share of every arm.
    pub(super) fn find_shares(&mut self, policy: &BanditPolicy) {
        let mut random = SmallRng::seed_from_u64(self.ticks);
        let prior = Prior::of(&self.beliefs);
        let mut wins = vec![0_u32; self.beliefs.len()];
        for _ in 0..DRAWS {
            let drawn = self.beliefs.iter().map(|belief| prior.draw(belief, policy.reward, &mut random));
            let best = drawn.enumerate().max_by(|(_, left), (_, right)| left.total_cmp(right));
            if let Some(win) = best.and_then(|(at, _)| wins.get_mut(at)) {
                *win += 1;
            }
        }
        let floor = policy.min_share.fraction();
        let rest = (1.0 - floor * self.beliefs.len() as f64).max(0.0);
        for (belief, wins) in self.beliefs.iter_mut().zip(wins) {
            belief.share = floor + rest * f64::from(wins) / f64::from(DRAWS);
        }
    }

    fn new_leader(&mut self) -> Option<Event> {
        // Well above half: shares are drawn, and two arms that are as good would take turns at every tick.
        let leader = self.beliefs.iter().find(|belief| belief.share > LEADS)?;
        if self.leader.as_ref() == Some(&leader.arm) {
            return None;
        }
        let reason = format!("arm {} has {:.0}% of the requests now", leader.arm, leader.share * 100.0);
        let event = Event::new(EventKind::Leading, &leader.version, reason);
        self.leader = Some(leader.arm.clone());
        Some(event)
    }

    /// The share of an arm.
    pub(super) fn share(&self, arm: &str) -> Option<f64> {
        self.beliefs.iter().find(|belief| belief.arm == arm).map(|belief| belief.share)
    }
}

/// What latency is expected of an arm before it has shown any: that of all arms, counted as one answer.
struct Prior {
    mean: f64,
    variance: f64,
}

impl Prior {
    fn of(beliefs: &[Belief]) -> Self {
        let count: f64 = beliefs.iter().map(|belief| belief.count).sum();
        if count <= 0.0 {
            return Self { mean: 1.0, variance: 1.0 };
        }
        let mean = beliefs.iter().map(|belief| belief.count * belief.mean).sum::<f64>() / count;
        let around = |belief: &Belief| belief.squares + belief.count * (belief.mean - mean).powi(2);
        let variance = beliefs.iter().map(around).sum::<f64>() / count;
        Self { mean, variance: variance.max(1.0) }
    }

    /// What an arm may be worth, drawn from what is believed of it: the more the better.
    fn draw(&self, belief: &Belief, reward: Reward, random: &mut SmallRng) -> f64 {
        let rate = Beta::new(1.0 + belief.good, 1.0 + belief.bad).map_or(0.5, |beta| beta.sample(random));
        if reward != Reward::Latency {
            return rate;
        }
        // The time to an answer for somebody who tries again after each failure.
        -self.draw_mean(belief, random) / rate.max(f64::MIN_POSITIVE)
    }

    /// A mean latency, from the posterior of normal-inverse-gamma: a Student distribution.
    fn draw_mean(&self, belief: &Belief, random: &mut SmallRng) -> f64 {
        let all = belief.count + 1.0;
        let mean = (self.mean + belief.count * belief.mean) / all;
        let shape = 1.0 + belief.count / 2.0;
        let apart = (belief.mean - self.mean).powi(2) * belief.count / all;
        let scale = self.variance + (belief.squares + apart) / 2.0;
        let spread = (scale / (shape * all)).sqrt();
        let student = StudentT::new(2.0 * shape).map_or(0.0, |student| student.sample(random));
        // No latency is negative.
        (mean + spread * student).max(0.0)
    }
}
