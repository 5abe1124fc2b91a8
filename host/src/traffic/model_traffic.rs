//! One model's traffic: the policy, its arms and its state, behind a plan that requests read.
//!
//! Owns the life of arms (kept as long as name, version and content stay) and the order of changes. A
//! request reads the plan without a lock; everything else takes one lock and leaves a new plan.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use xxhash_rust::xxh3::xxh3_64;

use super::arm::Arm;
use super::bandit::Bandit;
use super::event::Event;
use super::layout::{Source, Wanted};
use super::plan::{Choice, NoVersion, Plan, Slot};
use super::rollout::{ReadyVersion, Rollout, millis};
use super::shadow::Mirror;
use super::share::{Elsewhere, Say};
use super::status::Remembered;
use crate::config::{Colour, Labels, Reward, Sticky, TrafficPolicy};
use crate::repository::compare_versions;

/// See the module.
#[derive(Debug)]
pub struct Traffic {
    plan: ArcSwap<Plan>,
    state: Mutex<State>,
}

/// Arms that may wait for somebody to take their counts.
const MOST_RETIRED: usize = 64;

/// What changes, under the lock.
#[derive(Debug)]
pub(super) struct State {
    seed: u64,
    pub(super) policy: TrafficPolicy,
    pub(super) labels: Labels,
    pub(super) ready: Vec<ReadyVersion>,
    /// Versions that were there when the host started are still being loaded.
    pub(super) starting: bool,
    pub(super) wanted: Vec<Wanted>,
    pub(super) arms: Vec<Arc<Arm>>,
    /// Arms that are no longer, and whose counts nobody has taken yet.
    pub(super) retired: Vec<Arc<Arm>>,
    pub(super) mirror: Option<Arc<Mirror>>,
    pub(super) active: Colour,
    pub(super) rollout: Rollout,
    pub(super) bandit: Bandit,
    /// Who moves a rollout.
    pub(super) say: Say,
    /// What other hosts have counted.
    pub(super) elsewhere: Elsewhere,
}

/// Why a reward was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedbackError {
    /// There is no such arm.
    #[error("{0}")]
    UnknownArm(String),
    /// It is not a number from 0 to 1.
    #[error("expected a reward from 0 to 1, got {0}")]
    OutOfRange(String),
    /// The bandit earns something else.
    #[error("this bandit's reward is {0}, not feedback; change 'reward' in its traffic")]
    NotAsked(&'static str),
}

impl Traffic {
    /// The traffic of a model before any of its versions is ready.
    pub fn new(model: &str, policy: TrafficPolicy, labels: Labels, memory: Option<Remembered>) -> Self {
        let memory = memory.unwrap_or_default();
        let rollout = match &policy {
            TrafficPolicy::Rollout(policy) => memory.rollout.restored(policy),
            _ => memory.rollout,
        };
        let mut state = State {
            seed: xxh3_64(model.as_bytes()),
            active: configured_colour(&policy),
            policy,
            labels,
            ready: Vec::new(),
            starting: false,
            wanted: Vec::new(),
            arms: Vec::new(),
            retired: Vec::new(),
            mirror: None,
            rollout,
            bandit: memory.bandit,
            say: Say::default(),
            elsewhere: Elsewhere::default(),
        };
        if let Some((active, configured)) = memory.colour
            && configured == state.active
        {
            state.active = active;
        }
        let plan = ArcSwap::from_pointee(state.rebuild());
        Self { plan, state: Mutex::new(state) }
    }

    /// Who serves a request that names no version. `key` is what [`Traffic::sticky`] asks for, if the
    /// request has it; `random` are 64 random bits. Takes no lock.
    ///
    /// # Errors
    /// If no version that traffic goes to is ready.
    pub fn choose(&self, key: Option<&[u8]>, random: u64) -> Result<Choice, NoVersion> {
        self.plan.load().choose(key, random)
    }

    /// Versions that were there at the host's start are still being loaded, or are no longer.
    pub fn starting(&self, starting: bool) {
        let mut state = self.lock();
        state.starting = starting;
        state.rollout.guessed &= starting;
    }

    /// The version that gets most of the requests.
    ///
    /// # Errors
    /// If no version that traffic goes to is ready.
    pub fn main_version(&self) -> Result<Arc<str>, NoVersion> {
        self.plan.load().main_version()
    }

    /// Whether traffic goes to the latest version, whatever that is.
    pub fn is_latest(&self) -> bool {
        matches!(self.lock().policy, TrafficPolicy::Latest)
    }

    /// The name of its strategy.
    pub fn strategy(&self) -> &'static str {
        self.lock().policy.strategy()
    }

    /// Whether its policy and labels are these.
    pub fn is(&self, policy: &TrafficPolicy, labels: &Labels) -> bool {
        let state = self.lock();
        state.policy == *policy && state.labels == *labels
    }

    /// Names for versions.
    pub fn labels(&self) -> Labels {
        self.lock().labels.clone()
    }

    /// The canary that was rolled back last and is ready still, and why.
    pub fn rolled_back(&self) -> Option<(String, String)> {
        let status = self.rollout_status().filter(|status| status.phase == "rolled_back")?;
        Some((status.canary?, status.reason))
    }

    /// What of a request is its key.
    pub fn sticky(&self) -> Arc<Sticky> {
        Arc::clone(&self.plan.load().sticky)
    }

    /// Whether the request's body is its key, and more than one arm to choose from.
    pub fn needs_body(&self) -> bool {
        let plan = self.plan.load();
        *plan.sticky == Sticky::Body && plan.arms.len() > 1
    }

    /// The version behind a label or the name of an arm; labels come first.
    pub fn resolve(&self, name: &str) -> Option<Arc<str>> {
        self.plan.load().names.get(name).map(Arc::clone)
    }

    /// Applies another policy or other labels. Arms keep their statistics, and a rollout its progress, as
    /// far as they stay the same.
    pub fn reconfigure(&self, policy: TrafficPolicy, labels: Labels, now: SystemTime) -> Vec<Event> {
        let answers = self.main_version().ok();
        self.change(now, |state, now| {
            if kind_of_rollout(&state.policy) != kind_of_rollout(&policy) {
                // What was promoted under another policy, perhaps long ago, says nothing: what answers now is stable.
                let promoted = answers.filter(|_| kind_of_rollout(&policy) == Some(false));
                state.rollout = Rollout::beginning_with(promoted.as_deref());
            }
            if configured_colour(&state.policy) != configured_colour(&policy)
                || state.policy.strategy() != policy.strategy()
            {
                state.active = configured_colour(&policy);
            }
            (state.policy, state.labels) = (policy, labels);
            state.observe(now)
        })
    }

    /// Takes note of which versions are ready, in any order.
    pub fn versions_changed(&self, ready: &[ReadyVersion], now: SystemTime) -> Vec<Event> {
        self.change(now, |state, now| {
            state.ready = ready.to_vec();
            state.ready.sort_by(|left, right| compare_versions(&left.name, &right.name));
            state.observe(now)
        })
    }

    /// Lets time pass: steps of a rollout, shares of a bandit. To be called about once a second.
    pub fn tick(&self, now: SystemTime) -> Vec<Event> {
        self.change(now, |state, now| state.tick(now).into_iter().collect())
    }

    /// Takes a reward for an arm, or for a version or label that is behind one arm only.
    ///
    /// # Errors
    /// If there is no such arm, the reward is not from 0 to 1, or nobody asks for rewards.
    pub fn feedback(&self, arm: &str, reward: f64) -> Result<(), FeedbackError> {
        if !(0.0..=1.0).contains(&reward) {
            return Err(FeedbackError::OutOfRange(reward.to_string()));
        }
        let state = self.lock();
        if let TrafficPolicy::Bandit(bandit) = &state.policy {
            match bandit.reward {
                Reward::Feedback => {}
                Reward::Latency => return Err(FeedbackError::NotAsked("latency")),
                Reward::Errors => return Err(FeedbackError::NotAsked("errors")),
            }
        }
        state.arm(arm)?.reward(reward);
        Ok(())
    }

    /// What must survive a restart.
    pub fn remembered(&self) -> Remembered {
        let state = self.lock();
        let colour = match state.policy {
            TrafficPolicy::BlueGreen { active, .. } => Some((state.active, active)),
            _ => None,
        };
        let rollout = match kind_of_rollout(&state.policy) {
            Some(_) => state.rollout.clone(),
            None => Rollout::default(),
        };
        Remembered { rollout, bandit: state.bandit.clone(), colour }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and publishes the plan that follows.
    pub(super) fn change<T>(&self, now: SystemTime, change: impl FnOnce(&mut State, u64) -> T) -> T {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, millis);
        let mut state = self.lock();
        let result = change(&mut state, now);
        let plan = state.rebuild();
        self.plan.store(Arc::new(plan));
        result
    }
}

/// `Some(true)` for a rollout that names its versions, `Some(false)` for one that takes those that come.
fn kind_of_rollout(policy: &TrafficPolicy) -> Option<bool> {
    match policy {
        TrafficPolicy::Rollout(rollout) => Some(rollout.pair.is_some()),
        _ => None,
    }
}

/// The colour that the policy names.
fn configured_colour(policy: &TrafficPolicy) -> Colour {
    match policy {
        TrafficPolicy::BlueGreen { active, .. } => *active,
        _ => Colour::Blue,
    }
}

impl State {
    pub(super) fn source(&self) -> Source<'_> {
        Source {
            policy: &self.policy,
            labels: &self.labels,
            ready: &self.ready,
            active: self.active,
            rollout: &self.rollout,
            bandit: &self.bandit,
        }
    }

    /// After versions or policy have changed.
    pub(super) fn observe(&mut self, now: u64) -> Vec<Event> {
        let TrafficPolicy::Rollout(policy) = &self.policy else {
            return Vec::new();
        };
        let names = self.source().pair_names(policy);
        let names = names.as_ref().map(|(stable, canary)| (stable.as_str(), canary.as_str()));
        self.rollout.observe(policy, names, &self.ready, self.starting, now)
    }

    fn tick(&mut self, now: u64) -> Option<Event> {
        match &self.policy {
            TrafficPolicy::Bandit(policy) => self.bandit.tick(policy, &self.arms, now),
            TrafficPolicy::Rollout(policy) => {
                let pair = self.source().pair(policy);
                let counted = self.counted();
                self.rollout.tick(policy, &pair, counted, self.say, now)
            }
            _ => None,
        }
    }

    pub(super) fn arm_named(&self, name: &str) -> Option<&Arc<Arm>> {
        self.arms.iter().find(|arm| **arm.name() == *name)
    }

    fn arm(&self, name: &str) -> Result<&Arc<Arm>, FeedbackError> {
        if let Some(arm) = self.arm_named(name) {
            return Ok(arm);
        }
        let source = self.source();
        let version = source.resolve(name);
        let mut behind = self.arms.iter().filter(|arm| **arm.version() == *version);
        match (behind.next(), behind.next()) {
            (Some(arm), None) => Ok(arm),
            (Some(_), Some(_)) => {
                Err(FeedbackError::UnknownArm(format!("version {version} is behind several arms; name one")))
            }
            (None, _) => {
                let known: Vec<&str> = self.arms.iter().map(|arm| &**arm.name()).collect();
                let name: String = name.chars().take(128).flat_map(char::escape_debug).collect();
                let known = if known.is_empty() { "none is ready".to_owned() } else { known.join(", ") };
                Err(FeedbackError::UnknownArm(format!("there is no arm '{name}'; arms: {known}")))
            }
        }
    }

    /// Brings the arms in line with policy and versions, and makes the plan of them.
    fn rebuild(&mut self) -> Plan {
        self.wanted = self.source().arms();
        self.renew_arms();
        if let TrafficPolicy::Bandit(policy) = &self.policy {
            let before = self.bandit.beliefs.len();
            let names: Vec<&str> = policy.arms.iter().map(|(name, _)| name.as_str()).collect();
            self.bandit.keep(policy, &self.arms, &names);
            let new = |belief: &super::bandit::Belief| belief.share <= 0.0;
            if self.bandit.beliefs.len() != before || self.bandit.beliefs.iter().any(new) {
                self.bandit.find_shares(policy);
            }
            self.wanted = self.source().arms();
        }
        self.renew_mirror();
        let mut slots: Vec<Slot> = Vec::new();
        for wanted in self.wanted.iter().filter(|wanted| wanted.weight > 0.0) {
            let arm = self.ready_arm(wanted);
            slots.extend(arm.map(|arm| Slot { arm: Arc::clone(arm), share: wanted.weight }));
        }
        let total: f64 = slots.iter().map(|slot| slot.share).sum();
        slots.iter_mut().for_each(|slot| slot.share /= total);
        let source = self.source();
        let mut names: BTreeMap<String, Arc<str>> =
            self.wanted.iter().map(|wanted| (wanted.name.clone(), wanted.version.as_str().into())).collect();
        names.extend(self.labels.iter().map(|(label, version)| (label.clone(), version.as_str().into())));
        Plan {
            reason: source.reason(&self.wanted).into(),
            sticky: Arc::new(self.policy.sticky().clone()),
            arms: slots.into(),
            mirror: self.mirror.clone(),
            names,
            seed: self.seed,
        }
    }

    pub(super) fn digest(&self, version: &str) -> Option<&str> {
        self.ready.iter().find(|ready| ready.name == version).map(|ready| ready.digest.as_str())
    }

    /// The arm as the policy wants it, if its version is ready.
    pub(super) fn ready_arm(&self, wanted: &Wanted) -> Option<&Arc<Arm>> {
        self.digest(&wanted.version)?;
        self.arms.iter().find(|arm| **arm.name() == *wanted.name && **arm.version() == *wanted.version)
    }

    /// Keeps the arms that stay as they are, those whose version is away for a while included.
    fn renew_arms(&mut self) {
        let mut arms = Vec::with_capacity(self.wanted.len());
        for wanted in &self.wanted {
            let digest = self.digest(&wanted.version);
            let same = |arm: &&Arc<Arm>| {
                **arm.name() == *wanted.name
                    && **arm.version() == *wanted.version
                    && digest.is_none_or(|digest| arm.digest() == digest)
            };
            match (self.arms.iter().find(same), digest) {
                (Some(arm), _) => arms.push(Arc::clone(arm)),
                (None, Some(digest)) => {
                    arms.push(Arc::new(Arm::new(&wanted.name, &wanted.version, digest, &wanted.seed)));
                }
                (None, None) => {}
            }
        }
        let stays = |arm: &Arc<Arm>| arms.iter().any(|other| Arc::ptr_eq(arm, other));
        self.retired.extend(self.arms.iter().filter(|arm| !stays(arm)).map(Arc::clone));
        let excess = self.retired.len().saturating_sub(MOST_RETIRED);
        self.retired.drain(..excess);
        self.arms = arms;
        self.elsewhere.keep(&self.arms);
    }

    fn renew_mirror(&mut self) {
        let TrafficPolicy::Shadow(policy) = &self.policy else {
            self.mirror = None;
            return;
        };
        let wanted = self.wanted.iter().find(|wanted| wanted.name == "mirror");
        let arm = wanted.and_then(|wanted| self.ready_arm(wanted)).map(Arc::clone);
        let same =
            |mirror: &Arc<Mirror>, arm: &Arc<Arm>| Arc::ptr_eq(&mirror.arm, arm) && mirror.policy == *policy;
        self.mirror = arm.map(|arm| match &self.mirror {
            Some(mirror) if same(mirror, &arm) => Arc::clone(mirror),
            _ => Arc::new(Mirror::new(arm, policy.clone())),
        });
    }
}
