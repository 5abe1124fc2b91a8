//! What an operator sees of a model's traffic, and what survives a restart.

use serde::{Deserialize, Serialize};

use super::bandit::Bandit;
use super::gates::GateReading;
use super::rollout::Rollout;
use crate::config::Colour;

/// How traffic stands, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The strategy's name.
    pub strategy: &'static str,
    /// The arms, in the policy's order.
    pub arms: Vec<ArmStatus>,
    /// Why nobody serves, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The rollout's state, if the strategy is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// The shadow's state, if the strategy is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowStatus>,
}

/// One arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmStatus {
    /// The arm's name.
    pub name: String,
    /// The version behind it.
    pub version: String,
    /// Whether that version is ready.
    pub ready: bool,
    /// What part of the requests it gets, 0 to 1.
    pub share: f64,
    /// Requests that it answered.
    pub answered: u64,
    /// Requests that failed by its fault.
    pub failed: u64,
    /// Requests that it refused as wrong.
    pub refused: u64,
    /// Requests that failed by somebody else's.
    pub neither: u64,
    /// Latencies of answered requests in seconds: p50, p95, p99.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Quantiles>,
    /// Rewards that were posted for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewards: Option<RewardStatus>,
    /// What a bandit believes of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub belief: Option<BeliefStatus>,
}

/// Latencies in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half of the requests took no longer.
    pub p50: f64,
    /// 95 % took no longer.
    pub p95: f64,
    /// 99 % took no longer.
    pub p99: f64,
}

/// Rewards that were posted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RewardStatus {
    /// How many.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// The mean's standard error.
    pub standard_error: f64,
}

/// What a bandit believes of an arm; what was seen long ago counts less.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BeliefStatus {
    /// Rewards earned or requests answered.
    pub good: f64,
    /// Rewards missed or requests failed.
    pub bad: f64,
    /// The mean latency in seconds, where that is the reward.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<f64>,
}

/// A rollout.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RolloutStatus {
    /// `running`, `rolled_back`, `promoted`, or `idle` if there is no canary.
    pub phase: &'static str,
    /// The stable version.
    pub stable: Option<String>,
    /// The canary.
    pub canary: Option<String>,
    /// The step, from 1; 0 if there is none.
    pub step: usize,
    /// How many steps there are.
    pub steps: usize,
    /// When the step or the phase began, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// When the next step comes at the earliest, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// Why it stands as it does, or what it waits for.
    pub reason: String,
    /// The gates.
    pub gates: Vec<GateReading>,
}

/// A shadow's mirror.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ShadowStatus {
    /// Copies that were made.
    pub copied: u64,
    /// Copies that were not made because too many were in flight.
    pub skipped: u64,
    /// Answers that were the same as the primary's.
    pub same: u64,
    /// Answers that were not.
    pub different: u64,
    /// The largest difference of two numbers; infinite (`null` in JSON) if one was no number.
    pub largest_difference: f64,
}

/// What must survive a restart. An unknown or a missing part of it is as if nothing had been remembered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Remembered {
    /// The rollouts.
    pub(super) rollout: Rollout,
    /// The bandit's beliefs.
    pub(super) bandit: Bandit,
    /// Which colour was active, and which one the policy named then.
    pub(super) colour: Option<(Colour, Colour)>,
}

impl Remembered {
    /// The version that was promoted last, where the policy named none.
    pub fn promoted(&self) -> Option<&str> {
        self.rollout.promoted.as_deref()
    }
}
