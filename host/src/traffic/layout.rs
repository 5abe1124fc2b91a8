//! From a policy to arms: which version is behind each, and what share it is to get.
//!
//! Owns the meaning of each strategy. Pure; whether a version is ready is looked at by whoever makes a
//! plan of it.

use super::bandit::Bandit;
use super::rollout::{Pair, ReadyVersion, Rollout};
use crate::config::{BanditPolicy, Colour, Labels, RolloutPolicy, TrafficPolicy};

/// One arm as the policy wants it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) version: String,
    /// Relative to the other arms; 0 gets nothing.
    pub(super) weight: f64,
    /// What a client's key is mixed with: an arm keeps its clients as long as this stays.
    pub(super) seed: String,
}

impl Wanted {
    fn new(name: &str, version: &str, weight: f64) -> Self {
        Self { name: name.to_owned(), version: version.to_owned(), weight, seed: name.to_owned() }
    }
}

/// What arms are made of.
pub(super) struct Source<'s> {
    pub(super) policy: &'s TrafficPolicy,
    pub(super) labels: &'s Labels,
    pub(super) ready: &'s [ReadyVersion],
    pub(super) active: Colour,
    pub(super) rollout: &'s Rollout,
    pub(super) bandit: &'s Bandit,
}

impl Source<'_> {
    pub(super) fn resolve<'n>(&'n self, name: &'n str) -> &'n str {
        self.labels.get(name).map_or(name, String::as_str)
    }

    /// All arms of the policy, in its order.
    pub(super) fn arms(&self) -> Vec<Wanted> {
        let arm = |name: &str, version: &str, weight: f64| Wanted::new(name, self.resolve(version), weight);
        match self.policy {
            TrafficPolicy::Latest => {
                let latest = self.ready.last();
                latest.map(|version| Wanted::new("latest", &version.name, 1.0)).into_iter().collect()
            }
            TrafficPolicy::Pinned { version } => vec![arm("pinned", version, 1.0)],
            TrafficPolicy::Split { weights, .. } => {
                weights.iter().map(|(version, weight)| arm(version, version, weight.get())).collect()
            }
            TrafficPolicy::Ab { arms, .. } => {
                arms.iter().map(|(name, one)| arm(name, &one.version, one.weight.get())).collect()
            }
            TrafficPolicy::Shadow(shadow) => {
                vec![arm("primary", &shadow.primary, 1.0), arm("mirror", &shadow.mirror, 0.0)]
            }
            TrafficPolicy::BlueGreen { blue, green, .. } => {
                let weight = |colour: Colour| if colour == self.active { 1.0 } else { 0.0 };
                vec![arm("blue", blue, weight(Colour::Blue)), arm("green", green, weight(Colour::Green))]
            }
            TrafficPolicy::Bandit(bandit) => self.bandit_arms(bandit),
            TrafficPolicy::Rollout(rollout) => self.rollout_arms(rollout),
        }
    }

    fn bandit_arms(&self, policy: &BanditPolicy) -> Vec<Wanted> {
        let equal = 1.0 / policy.arms.len().max(1) as f64;
        let share = |name: &str| self.bandit.share(name).unwrap_or(equal);
        policy
            .arms
            .iter()
            .map(|(name, version)| Wanted::new(name, self.resolve(version), share(name)))
            .collect()
    }

    fn rollout_arms(&self, policy: &RolloutPolicy) -> Vec<Wanted> {
        let pair = self.pair(policy);
        let (stable_share, canary_share) = self.rollout.shares(&pair);
        let names = self.pair_names(policy);
        let promoted = self.rollout.promoted.as_deref();
        let stable = pair.stable.as_ref().map(|version| version.name.as_str());
        let stable = stable.or(names.as_ref().map(|(stable, _)| stable.as_str())).or(promoted);
        let canary = pair.canary.as_ref().map(|version| version.name.as_str());
        let canary = canary.or(names.as_ref().map(|(_, canary)| canary.as_str()));
        let mut arms = Vec::new();
        arms.extend(stable.map(|version| Wanted::new("stable", version, stable_share)));
        // Each rollout begins with other clients.
        let seed = |version: &str| format!("canary {version}");
        arms.extend(
            canary.map(|version| Wanted {
                seed: seed(version),
                ..Wanted::new("canary", version, canary_share)
            }),
        );
        arms
    }

    /// The versions that a rollout names.
    pub(super) fn pair_names(&self, policy: &RolloutPolicy) -> Option<(String, String)> {
        let (stable, canary) = policy.pair.as_ref()?;
        Some((self.resolve(stable).to_owned(), self.resolve(canary).to_owned()))
    }

    /// Who takes part in a rollout.
    pub(super) fn pair(&self, policy: &RolloutPolicy) -> Pair {
        let names = self.pair_names(policy);
        let names = names.as_ref().map(|(stable, canary)| (stable.as_str(), canary.as_str()));
        self.rollout.pair(names, self.ready)
    }

    /// Why nobody serves, if none of these arms is ready.
    pub(super) fn reason(&self, arms: &[Wanted]) -> String {
        let needed: Vec<String> = arms
            .iter()
            .filter(|arm| arm.weight > 0.0)
            .map(|arm| match arm.name == arm.version {
                true => format!("version {}", arm.version),
                false => format!("version {} ({})", arm.version, arm.name),
            })
            .collect();
        let strategy = self.policy.strategy();
        match &*needed {
            [] => "no version is ready".to_owned(),
            [only] => format!("{only}, which traffic ({strategy}) goes to, is not ready"),
            several => {
                format!("none of those that traffic ({strategy}) goes to is ready: {}", several.join(", "))
            }
        }
    }
}
