//! What several hosts with the same model have in common: how far its traffic has come, and what each has counted.
//!
//! Owns what of a model's traffic others may take over, and the taking over. It knows nothing of how it gets from
//! one host to another, and decides nothing about who may move traffic: that is handed in.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::arm::{Arm, Sample};
use super::bandit::Part;
use super::event::Event;
use super::histogram::Snapshot;
use super::model_traffic::{State, Traffic};
use super::rollout::{Phase, Rollout, millis};
use crate::config::{Colour, TrafficPolicy};

/// Arms of other hosts that are remembered.
const MOST_SEEN: usize = 4096;

/// Who moves a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Say {
    /// This host: there are no others.
    #[default]
    Alone,
    /// This host, for all of them.
    Leads,
    /// Another one; this host only follows.
    Follows,
    /// Nobody knows. The canary is taken back where it fails, and goes no step up.
    CutOff,
}

impl Say {
    /// Whether a canary that fails is taken back here.
    pub(super) const fn takes_back(self) -> bool {
        !matches!(self, Self::Follows)
    }

    /// Whether a canary that does well gets more here.
    pub(super) const fn steps_up(self) -> bool {
        matches!(self, Self::Alone | Self::Leads)
    }

    /// What a step that is over waits for.
    pub(super) const fn waits_for(self) -> &'static str {
        match self {
            Self::Follows => "the host that moves this rollout",
            _ => "the store that hosts share, which cannot be reached",
        }
    }
}

/// What a model's traffic has come to, by itself or by command, in the form in which hosts share it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moved {
    /// How far rollouts are.
    Rollout(MovedRollout),
    /// Which colour answers.
    Colour(Colour),
}

/// See [`Moved`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MovedRollout(Rollout);

/// The same decisions: when a step began, and what was ready where, is each host's own.
impl PartialEq for Moved {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rollout(one), Self::Rollout(two)) => one.0.decides_as(&two.0),
            (Self::Colour(one), Self::Colour(two)) => one == two,
            _ => false,
        }
    }
}

/// Whether a host can judge a rollout that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// Both versions are ready here.
    Complete,
    /// The stable version is not.
    CanaryOnly,
}

/// What a host has counted of a model, for the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    arms: Vec<ArmCounted>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<Part>,
}

/// What an arm has counted since it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ArmCounted {
    /// Another one is another arm, though it has the same name: its counts begin with 0.
    serial: u64,
    arm: String,
    version: String,
    digest: String,
    answered: u64,
    failed: u64,
    refused: u64,
    /// Buckets and what is in them.
    latency: Vec<(usize, u64)>,
}

/// What other hosts have counted, arm by arm.
#[derive(Debug, Default)]
pub(super) struct Elsewhere(BTreeMap<(String, u64), Seen>);

#[derive(Debug)]
struct Seen {
    arm: String,
    version: String,
    digest: String,
    /// What it had when it was first heard of: that was counted for others.
    base: Sample,
    last: Sample,
}

impl Seen {
    fn is_of(&self, arm: &Arm) -> bool {
        *self.arm == **arm.name() && *self.version == **arm.version() && self.digest == arm.digest()
    }
}

impl Elsewhere {
    /// Takes note of what a host says; counts that are not higher than those before are of an earlier message.
    fn learn(&mut self, source: &str, counted: &[ArmCounted]) {
        for one in counted {
            let sample = Sample {
                answered: one.answered,
                failed: one.failed,
                refused: one.refused,
                latency: Snapshot::of(&one.latency),
            };
            let key = (source.to_owned(), one.serial);
            if let Some(seen) = self.0.get_mut(&key) {
                if sample.requests() > seen.last.requests() {
                    seen.last = sample;
                }
            } else if self.0.len() < MOST_SEEN {
                let (arm, version, digest) = (one.arm.clone(), one.version.clone(), one.digest.clone());
                self.0.insert(key, Seen { arm, version, digest, base: sample.clone(), last: sample });
            }
        }
    }

    /// What an arm has counted on other hosts since they were first heard of; it never gets less.
    pub(super) fn sample(&self, arm: &Arm) -> Sample {
        let of = self.0.values().filter(|seen| seen.is_of(arm));
        of.fold(Sample::default(), |all, seen| all.plus(&seen.last.since(&seen.base)))
    }

    /// Forgets arms that are not here either.
    pub(super) fn keep(&mut self, arms: &[std::sync::Arc<Arm>]) {
        self.0.retain(|_, seen| arms.iter().any(|arm| seen.is_of(arm)));
    }
}

impl Traffic {
    /// What this model's traffic has come to, and the place in which that counts: the policy, as far as it decides
    /// what the steps mean. `None` where there is nothing to share, or nothing is known yet.
    pub fn moved(&self) -> Option<(String, Moved)> {
        let state = self.lock();
        let place = state.place()?;
        let moved = match &state.policy {
            TrafficPolicy::Rollout(_) if state.rollout.guessed => return None,
            TrafficPolicy::Rollout(_) => Moved::Rollout(MovedRollout(state.rollout.clone())),
            _ => Moved::Colour(state.active),
        };
        (!state.starting).then_some((place, moved))
    }

    /// The place in which moves count, see [`Traffic::moved`].
    pub fn place(&self) -> Option<String> {
        self.lock().place()
    }

    /// Takes over what others have come to in this place; nothing happens if this model is in another one.
    pub fn adopt(&self, place: &str, moved: &Moved, now: SystemTime) -> Vec<Event> {
        self.change(now, |state, now| {
            if state.place().as_deref() != Some(place) {
                return Vec::new();
            }
            match (moved, &state.policy) {
                (Moved::Rollout(MovedRollout(rollout)), TrafficPolicy::Rollout(_)) => {
                    let counted = state.counted();
                    state.rollout.adopt(rollout, counted);
                    state.observe(now)
                }
                (Moved::Colour(colour), TrafficPolicy::BlueGreen { .. }) => {
                    state.active = *colour;
                    Vec::new()
                }
                _ => Vec::new(),
            }
        })
    }

    /// Says who moves this model's rollout.
    pub fn set_say(&self, say: Say) {
        self.lock().say = say;
    }

    /// Whether this host can judge the rollout that is under way; `None` if there is none, or it cannot.
    pub fn stands(&self) -> Option<Stands> {
        let state = self.lock();
        let TrafficPolicy::Rollout(policy) = &state.policy else {
            return None;
        };
        let pair = state.source().pair(policy);
        state.rollout.current(&pair).filter(|attempt| attempt.phase == Phase::Running)?;
        Some(if pair.stable.is_some() { Stands::Complete } else { Stands::CanaryOnly })
    }

    /// What this host has counted, under a name that no other host and no other process has; `None` where nobody
    /// needs it.
    pub fn counted(&self, source: &str) -> Option<Counted> {
        let mut state = self.lock();
        match &state.policy {
            TrafficPolicy::Bandit(_) => {
                let part = state.bandit.published_as(source);
                Some(Counted { arms: Vec::new(), part })
            }
            TrafficPolicy::Rollout(_) if state.rollout.is_running() => {
                let arms = state.arms.iter().map(|arm| ArmCounted::of(arm)).collect();
                Some(Counted { arms, part: None })
            }
            _ => None,
        }
    }

    /// Takes note of what another host has counted, under its name. Nothing is counted twice, however often it
    /// is said.
    pub fn learn(&self, source: &str, counted: &Counted, now: SystemTime) {
        let now = now.duration_since(std::time::UNIX_EPOCH).map_or(0, millis);
        let mut state = self.lock();
        match (&state.policy, &counted.part) {
            (TrafficPolicy::Rollout(_), _) => state.elsewhere.learn(source, &counted.arms),
            (TrafficPolicy::Bandit(_), Some(part)) => state.bandit.learn_from(source, part, now),
            _ => {}
        }
    }
}

impl ArmCounted {
    fn of(arm: &Arm) -> Self {
        let sample = arm.sample();
        Self {
            serial: arm.serial(),
            arm: arm.name().to_string(),
            version: arm.version().to_string(),
            digest: arm.digest().to_owned(),
            answered: sample.answered,
            failed: sample.failed,
            refused: sample.refused,
            latency: sample.latency.buckets(),
        }
    }
}

impl State {
    /// What canary and stable version have counted, on all hosts.
    pub(super) fn counted(&self) -> Option<(Sample, Sample)> {
        let sample =
            |name: &str| self.arm_named(name).map(|arm| arm.sample().plus(&self.elsewhere.sample(arm)));
        sample("canary").zip(sample("stable"))
    }

    fn place(&self) -> Option<String> {
        match &self.policy {
            TrafficPolicy::Rollout(policy) => {
                let steps: Vec<String> = policy.steps.iter().map(ToString::to_string).collect();
                let steps = steps.join(",");
                Some(match self.source().pair_names(policy) {
                    Some((stable, canary)) => format!("rollout {stable} {canary} {steps}"),
                    None => format!("rollout {steps}"),
                })
            }
            TrafficPolicy::BlueGreen { active, .. } => Some(format!("blue-green {}", active.as_str())),
            _ => None,
        }
    }
}
