//! How a model's traffic stands, put into words and numbers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::arm::{Arm, Rewards};
use super::layout::Wanted;
use super::model_traffic::{State, Traffic};
use super::rollout::{Phase, millis};
use super::status::{ArmStatus, BeliefStatus, Quantiles, RewardStatus, RolloutStatus, ShadowStatus, Status};
use crate::config::{Reward, RolloutPolicy, TrafficPolicy};

impl Traffic {
    /// How its rollout stands, if the strategy is one.
    pub fn rollout_status(&self) -> Option<RolloutStatus> {
        let state = self.lock();
        match &state.policy {
            TrafficPolicy::Rollout(policy) => Some(rollout(&state, policy)),
            _ => None,
        }
    }

    /// The arms that have gone since this was asked last, with all that they counted.
    pub fn take_retired(&self) -> Vec<ArmStatus> {
        let mut state = self.lock();
        let counted = |arm: Arc<Arm>| {
            let sample = arm.sample();
            ArmStatus {
                name: arm.name().to_string(),
                version: arm.version().to_string(),
                ready: false,
                share: 0.0,
                answered: sample.answered,
                failed: sample.failed,
                refused: sample.refused,
                neither: arm.not_its_fault(),
                latency: quantiles(&arm),
                rewards: rewards(&arm.rewards()),
                belief: None,
            }
        };
        std::mem::take(&mut state.retired).into_iter().map(counted).collect()
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let state = self.lock();
        let ready = |wanted: &Wanted| if state.ready_arm(wanted).is_some() { wanted.weight } else { 0.0 };
        let total: f64 = state.wanted.iter().map(ready).sum();
        let share = |wanted: &Wanted| if total > 0.0 { ready(wanted) / total } else { 0.0 };
        let rollout = match &state.policy {
            TrafficPolicy::Rollout(policy) => Some(rollout(&state, policy)),
            _ => None,
        };
        Status {
            strategy: state.policy.strategy(),
            arms: state.wanted.iter().map(|wanted| arm(&state, wanted, share(wanted))).collect(),
            reason: (total <= 0.0).then(|| state.source().reason(&state.wanted)),
            rollout,
            shadow: shadow(&state),
        }
    }
}

fn arm(state: &State, wanted: &Wanted, share: f64) -> ArmStatus {
    let arm = state.arms.iter().find(|arm| **arm.name() == *wanted.name);
    let sample = arm.map(|arm| arm.sample()).unwrap_or_default();
    ArmStatus {
        name: wanted.name.clone(),
        version: wanted.version.clone(),
        ready: state.ready_arm(wanted).is_some(),
        share,
        answered: sample.answered,
        failed: sample.failed,
        refused: sample.refused,
        neither: arm.map_or(0, |arm| arm.not_its_fault()),
        latency: arm.and_then(|arm| quantiles(arm)),
        rewards: arm.and_then(|arm| rewards(&arm.rewards())),
        belief: belief(state, wanted),
    }
}

fn quantiles(arm: &Arm) -> Option<Quantiles> {
    let latency = arm.sample().latency;
    let seconds = |part: f64| latency.quantile(part).map(|nanos| nanos / 1e9);
    Some(Quantiles { p50: seconds(0.5)?, p95: seconds(0.95)?, p99: seconds(0.99)? })
}

fn rewards(rewards: &Rewards) -> Option<RewardStatus> {
    let count = rewards.count as f64;
    if rewards.count == 0 {
        return None;
    }
    let mean = rewards.sum / count;
    let variance = (rewards.sum_of_squares / count - mean * mean).max(0.0);
    Some(RewardStatus { count: rewards.count, mean, standard_error: (variance / count).sqrt() })
}

fn belief(state: &State, wanted: &Wanted) -> Option<BeliefStatus> {
    let TrafficPolicy::Bandit(policy) = &state.policy else {
        return None;
    };
    let belief = state.bandit.beliefs.iter().find(|belief| belief.arm == wanted.name)?;
    let latency = (policy.reward == Reward::Latency && belief.count > 0.0).then_some(belief.mean / 1e6);
    Some(BeliefStatus { good: belief.good, bad: belief.bad, latency })
}

fn shadow(state: &State) -> Option<ShadowStatus> {
    let mirror = state.mirror.as_ref()?;
    Some(ShadowStatus {
        copied: mirror.copied.load(Ordering::Relaxed),
        skipped: mirror.skipped.load(Ordering::Relaxed),
        same: mirror.same.load(Ordering::Relaxed),
        different: mirror.different.load(Ordering::Relaxed),
        largest_difference: mirror.largest_difference(),
    })
}

fn rollout(state: &State, policy: &RolloutPolicy) -> RolloutStatus {
    let source = state.source();
    let pair = source.pair(policy);
    let name = |arm: &str| {
        state.wanted.iter().find(|wanted| wanted.name == arm).map(|wanted| wanted.version.clone())
    };
    let mut status = RolloutStatus {
        phase: "idle",
        stable: name("stable"),
        canary: name("canary"),
        step: 0,
        steps: policy.steps.len(),
        since: None,
        next: None,
        reason: "there is no canary that is ready".to_owned(),
        gates: Vec::new(),
    };
    // Of a canary that is away for a while, too, it is told how far it came.
    let last = || state.rollout.attempts.last();
    let Some(attempt) = state.rollout.current(&pair).or_else(last) else {
        return status;
    };
    if status.stable.as_ref() == Some(&attempt.canary) && attempt.phase == Phase::Running {
        // Of another time: it is stable now.
        return status;
    }
    (status.stable, status.canary) = (Some(attempt.stable.clone()), Some(attempt.canary.clone()));
    status.step = attempt.step.saturating_add(1);
    let (phase, since, reason) = match &attempt.phase {
        Phase::Running => ("running", attempt.since, attempt.waits_for(&pair)),
        Phase::RolledBack { reason, at } => ("rolled_back", *at, reason.clone()),
        Phase::Promoted { at } => ("promoted", *at, "the canary is the stable version".to_owned()),
    };
    (status.phase, status.since, status.reason) = (phase, Some(since / 1000), reason);
    if attempt.phase == Phase::Running {
        status.next = Some(attempt.since.saturating_add(millis(policy.hold)) / 1000);
        status.gates = attempt.window.readings.clone();
    }
    status
}
