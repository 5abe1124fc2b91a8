//! The metrics of traffic between versions: arms, rollouts, mirrors.
//!
//! Owns their names and labels. What arms count is read when it is asked for; only mirrors and rollouts
//! count in here.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::labels::VersionLabels;

/// Upper bounds of the distance of two answers.
const DISTANCES: [f64; 9] = [0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];
/// Upper bounds in seconds of how long a mirrored request takes.
const DURATIONS: [f64; 10] = [0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ArmLabels {
    model: String,
    arm: String,
    version: String,
}

impl ArmLabels {
    fn of(model: &str, arm: &ArmCount) -> Self {
        Self { model: model.to_owned(), arm: arm.arm.clone(), version: arm.version.clone() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ArmOutcomeLabels {
    model: String,
    arm: String,
    version: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    model: String,
    version: String,
    outcome: &'static str,
}

/// What became of a request that was to be mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MirrorOutcome {
    /// Both answers are the same within the tolerance.
    Same,
    /// They are not.
    Different,
    /// The mirror failed where the primary did not.
    Failed,
    /// The primary failed, and the mirror did not or failed otherwise.
    PrimaryFailed,
    /// The bounds of the mirror were reached.
    Skipped,
}

impl MirrorOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Different => "different",
            Self::Failed => "failed",
            Self::PrimaryFailed => "primary_failed",
            Self::Skipped => "skipped",
        }
    }
}

/// What one arm has counted since its model was loaded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArmCount {
    /// The arm's name.
    pub arm: String,
    /// The version that answers for it.
    pub version: String,
    /// The part of the requests that it gets, 0 to 1.
    pub share: f64,
    /// Requests that it answered.
    pub ok: u64,
    /// Requests that failed by its fault.
    pub failed: u64,
    /// Requests that it refused as wrong.
    pub refused: u64,
    /// Rewards that it was given.
    pub rewards: u64,
    /// Their sum.
    pub reward: f64,
}

type Amount = Counter<f64, AtomicU64>;

/// See the module.
#[derive(Debug)]
pub struct TrafficMetrics {
    requests: Family<ArmOutcomeLabels, Counter>,
    share: Family<ArmLabels, Gauge<f64, AtomicU64>>,
    rewards: Family<ArmLabels, Counter>,
    reward: Family<ArmLabels, Amount>,
    rollouts: Family<OutcomeLabels, Counter>,
    mirrored: Family<OutcomeLabels, Counter>,
    distances: Family<VersionLabels, Histogram, fn() -> Histogram>,
    durations: Family<VersionLabels, Histogram, fn() -> Histogram>,
    /// What the counters have in them already.
    seen: Mutex<HashMap<ArmLabels, ArmCount>>,
    /// The same of requests that mirrors were not given, by model and version.
    skipped: Mutex<HashMap<(String, String), u64>>,
}

impl Default for TrafficMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            share: Family::default(),
            rewards: Family::default(),
            reward: Family::default(),
            rollouts: Family::default(),
            mirrored: Family::default(),
            distances: Family::new_with_constructor(|| Histogram::new(DISTANCES)),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            seen: Mutex::default(),
            skipped: Mutex::default(),
        }
    }
}

impl TrafficMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "traffic_requests",
            "Requests that traffic gave to an arm, by outcome: ok, failed or refused",
            self.requests.clone(),
        );
        registry.register("traffic_share", "The part of the requests that an arm gets", self.share.clone());
        registry.register("traffic_rewards", "Rewards that an arm was given", self.rewards.clone());
        registry.register("traffic_reward", "The sum of an arm's rewards", self.reward.clone());
        registry.register(
            "rollouts",
            "Rollouts that ended: promoted, rolled_back or superseded",
            self.rollouts.clone(),
        );
        registry.register(
            "shadow_requests",
            "Mirrored requests: same, different, failed, primary_failed, or skipped",
            self.mirrored.clone(),
        );
        registry.register(
            "shadow_distance",
            "The largest distance of two numbers of a mirrored answer and its primary",
            self.distances.clone(),
        );
        registry.register_with_unit(
            "shadow_duration",
            "Time of a mirrored request",
            Unit::Seconds,
            self.durations.clone(),
        );
    }

    /// Brings a model's series up to what its arms have counted; arms that are no longer there are no longer
    /// told a share.
    pub fn observe(&self, model: &str, arms: Vec<ArmCount>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for labels in seen.keys().filter(|labels| labels.model == model) {
            self.share.remove(labels);
        }
        for arm in arms {
            let labels = ArmLabels::of(model, &arm);
            self.share.get_or_create(&labels).set(arm.share);
            self.count(&labels, seen.entry(labels.clone()).or_default(), &arm);
        }
    }

    /// Counts the last of an arm that has gone.
    pub fn retire(&self, model: &str, arm: ArmCount) {
        let labels = ArmLabels::of(model, &arm);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = seen.remove(&labels).unwrap_or_default();
        self.count(&labels, &mut before, &arm);
        self.share.remove(&labels);
    }

    fn count(&self, labels: &ArmLabels, before: &mut ArmCount, arm: &ArmCount) {
        let counts = [
            ("ok", arm.ok, before.ok),
            ("failed", arm.failed, before.failed),
            ("refused", arm.refused, before.refused),
        ];
        for (outcome, now, then) in counts {
            let labels = ArmOutcomeLabels {
                model: labels.model.clone(),
                arm: labels.arm.clone(),
                version: labels.version.clone(),
                outcome,
            };
            // Fewer than before: it is another arm of that name.
            self.requests.get_or_create(&labels).inc_by(now.checked_sub(then).unwrap_or(now));
        }
        let anew = arm.rewards < before.rewards;
        let (rewards, reward) = if anew { (0, 0.0) } else { (before.rewards, before.reward) };
        self.rewards.get_or_create(labels).inc_by(arm.rewards - rewards);
        self.reward.get_or_create(labels).inc_by((arm.reward - reward).max(0.0));
        *before = arm.clone();
    }

    /// Brings the count of requests that a mirror was not given up to what it says.
    pub fn skipped(&self, model: &str, version: &str, skipped: u64) {
        let labels = OutcomeLabels {
            model: model.to_owned(),
            version: version.to_owned(),
            outcome: MirrorOutcome::Skipped.as_str(),
        };
        let counter = self.mirrored.get_or_create(&labels);
        let mut seen = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.entry((model.to_owned(), version.to_owned())).or_default();
        // Fewer than before: it is another mirror.
        counter.inc_by(if skipped < *before { skipped } else { skipped - *before });
        *before = skipped;
    }

    /// Counts a rollout that ended.
    pub fn rollout_ended(&self, model: &str, version: &str, outcome: &'static str) {
        let labels = OutcomeLabels { model: model.to_owned(), version: version.to_owned(), outcome };
        self.rollouts.get_or_create(&labels).inc();
    }

    /// The series of a model's mirror.
    pub fn shadow(&self, model: &str, version: &str) -> ShadowMetrics {
        let labels = VersionLabels::of(model, version);
        ShadowMetrics {
            requests: self.mirrored.clone(),
            distance: self.distances.get_or_create_owned(&labels),
            duration: self.durations.get_or_create_owned(&labels),
            labels,
        }
    }
}

/// The series of one mirror.
#[derive(Clone, Debug)]
pub struct ShadowMetrics {
    labels: VersionLabels,
    requests: Family<OutcomeLabels, Counter>,
    distance: Histogram,
    duration: Histogram,
}

impl ShadowMetrics {
    /// Counts what became of a request.
    pub fn count(&self, outcome: MirrorOutcome) {
        let VersionLabels { model, version } = self.labels.clone();
        self.requests.get_or_create(&OutcomeLabels { model, version, outcome: outcome.as_str() }).inc();
    }

    /// Notes how far two answers were apart.
    pub fn distance(&self, distance: f64) {
        self.distance.observe(distance);
    }

    /// Notes how long the mirror took.
    pub fn took(&self, took: Duration) {
        self.duration.observe(took.as_secs_f64());
    }
}
