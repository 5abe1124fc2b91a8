//! A rollout: a canary's way up the steps, or back.
//!
//! Owns who is stable and who is the canary, the steps, and what is remembered of canaries that failed.
//! Pure but for what it keeps: versions, samples and time are handed in. Invariants, held by tests: no
//! step is skipped; none is left upwards with a gate that is not kept; a canary that was rolled back
//! stays so until its content changes, another version comes, or somebody says so.

use serde::{Deserialize, Serialize};

use super::arm::Sample;
use super::command::Command;
use super::event::{Event, EventKind};
use super::share::Say;
use super::window::{Verdict, Window};
use crate::config::{RolloutPolicy, Share};
use crate::repository::compare_versions;

/// How many attempts are remembered.
const MAX_ATTEMPTS: usize = 8;

/// A version that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyVersion {
    /// Its name.
    pub name: String,
    /// What it consists of: other content, another digest.
    pub digest: String,
}

/// What is remembered of rollouts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Rollout {
    /// The version that was promoted last, where the policy names none.
    pub(super) promoted: Option<String>,
    /// One for each canary, the present one last.
    #[serde(default)]
    pub(super) attempts: Vec<Attempt>,
    /// `promoted` is but what was ready first, and others that were there at the start may be still to come.
    #[serde(skip)]
    pub(super) guessed: bool,
    /// Since when the canary serves alone for want of a stable version.
    #[serde(skip)]
    alone_since: Option<u64>,
}

/// One canary's way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// The version that it is compared with.
    pub(super) stable: String,
    /// The new version.
    pub(super) canary: String,
    /// Its content.
    pub(super) digest: String,
    /// The step, from 0.
    pub(super) step: usize,
    /// The share that the step gives it.
    pub(super) share: f64,
    /// When the step began, in milliseconds since 1970.
    pub(super) since: u64,
    /// How it stands.
    pub(super) phase: Phase,
    /// What was counted in this step.
    #[serde(skip)]
    pub(super) window: Window,
}

/// How an attempt stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// On its way up.
    Running,
    /// Gets nothing any more.
    RolledBack {
        /// Why.
        reason: String,
        /// When, in milliseconds since 1970.
        at: u64,
    },
    /// Went through all steps.
    Promoted {
        /// When, in milliseconds since 1970.
        at: u64,
    },
}

/// Who takes part, of the versions that are ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) stable: Option<ReadyVersion>,
    pub(super) canary: Option<ReadyVersion>,
}

impl Rollout {
    /// Nothing is rolled out, and this version is stable.
    pub(super) fn beginning_with(promoted: Option<&str>) -> Self {
        Self { promoted: promoted.map(str::to_owned), ..Self::default() }
    }

    /// After a restart. The stable version gets nothing in the last step, so that there would be nothing to
    /// compare with: the one before is repeated.
    pub(super) fn restored(mut self, policy: &RolloutPolicy) -> Self {
        self.fit(policy);
        for attempt in self.attempts.iter_mut().filter(|attempt| attempt.phase == Phase::Running) {
            let step = attempt.step.min(policy.steps.len().saturating_sub(2));
            attempt.go_to(policy, step);
        }
        self
    }

    /// Where the policy has other steps than it had, an attempt goes to the last one that gives it no more
    /// than it has.
    fn fit(&mut self, policy: &RolloutPolicy) {
        for attempt in self.attempts.iter_mut().filter(|attempt| attempt.phase == Phase::Running) {
            if policy.share(attempt.step) == attempt.share && attempt.step < policy.steps.len() {
                continue;
            }
            let fits = |share: &Share| share.fraction() <= attempt.share;
            let step = policy.steps.iter().rposition(fits).unwrap_or(0);
            attempt.go_to(policy, step);
            attempt.window = Window::default();
        }
    }

    /// Who takes part. `names` are the versions that the policy names.
    pub(super) fn pair(&self, names: Option<(&str, &str)>, ready: &[ReadyVersion]) -> Pair {
        let find = |name: &str| ready.iter().find(|version| version.name == name).cloned();
        if let Some((stable, canary)) = names {
            let canary = if stable == canary { None } else { find(canary) };
            return Pair { stable: find(stable), canary };
        }
        let promoted = self.promoted.as_deref();
        let later = |version: &&ReadyVersion| {
            promoted.is_some_and(|name| compare_versions(&version.name, name).is_gt())
        };
        let canary = ready.last().filter(later).cloned();
        let other =
            |version: &&ReadyVersion| Some(*version) != canary.as_ref() && !self.is_rolled_back(version);
        let stand_in = || ready.iter().rev().find(other).cloned();
        Pair { stable: promoted.and_then(find).or_else(stand_in), canary }
    }

    fn is_rolled_back(&self, version: &ReadyVersion) -> bool {
        self.attempt_of(version).is_some_and(|attempt| matches!(attempt.phase, Phase::RolledBack { .. }))
    }

    fn attempt_of(&self, version: &ReadyVersion) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.is_of(version))
    }

    /// The attempt of the canary that is ready.
    pub(super) fn current(&self, pair: &Pair) -> Option<&Attempt> {
        self.attempt_of(pair.canary.as_ref()?)
    }

    pub(super) fn current_mut(&mut self, pair: &Pair) -> Option<&mut Attempt> {
        let canary = pair.canary.as_ref()?;
        self.attempts.iter_mut().find(|attempt| attempt.is_of(canary))
    }

    /// Takes note of who is ready: begins an attempt, or interrupts one. While the host is `starting`, and
    /// nothing is remembered, the latest version that is there counts as promoted.
    pub(super) fn observe(
        &mut self,
        policy: &RolloutPolicy,
        names: Option<(&str, &str)>,
        ready: &[ReadyVersion],
        starting: bool,
        now: u64,
    ) -> Vec<Event> {
        self.fit(policy);
        match names {
            Some((stable, canary)) => {
                self.attempts.retain(|attempt| attempt.stable == stable && attempt.canary == canary);
            }
            None if self.promoted.is_none() || self.guessed => {
                self.promoted = ready.last().map(|last| last.name.clone());
                self.guessed = starting && self.promoted.is_some();
            }
            None => {}
        }
        let pair = self.pair(names, ready);
        let alone = pair.stable.is_none() && pair.canary.is_some();
        self.alone_since = alone.then(|| self.alone_since.unwrap_or(now));
        let stable_name = match (names, &self.promoted) {
            (Some((stable, _)), _) => stable.to_owned(),
            (None, promoted) => promoted.clone().unwrap_or_default(),
        };
        let mut events = Vec::new();
        if let Some(canary) = &pair.canary {
            if self.attempt_of(canary).is_none() {
                events.extend(self.begin(policy, &stable_name, canary, now));
            } else if let Some(at) = self.attempts.iter().position(|attempt| attempt.is_of(canary)) {
                self.attempts[at..].rotate_left(1);
            }
        }
        let complete = pair.stable.is_some() && pair.canary.is_some();
        for attempt in self.attempts.iter_mut().filter(|attempt| attempt.phase == Phase::Running) {
            let serves = complete && pair.canary.as_ref().is_some_and(|canary| attempt.is_of(canary));
            attempt.interrupt(!serves, now);
        }
        events
    }

    fn begin(&mut self, policy: &RolloutPolicy, stable: &str, canary: &ReadyVersion, now: u64) -> Vec<Event> {
        let mut events = Vec::new();
        // The same version with other content, if it was on its way.
        let before = self.attempts.last().filter(|attempt| attempt.phase == Phase::Running);
        if let Some(before) = before {
            let reason = format!("version {} came before it had gone through all steps", canary.name);
            events.push(Event::new(EventKind::Superseded, &before.canary, reason));
        }
        // Other contents of the same version stay: another host may still have them.
        self.attempts.push(Attempt {
            stable: stable.to_owned(),
            canary: canary.name.clone(),
            digest: canary.digest.clone(),
            step: 0,
            share: policy.share(0),
            since: now,
            phase: Phase::Running,
            window: Window::default(),
        });
        let excess = self.attempts.len().saturating_sub(MAX_ATTEMPTS);
        self.attempts.drain(..excess);
        let share = policy.steps.first().map(ToString::to_string).unwrap_or_default();
        let reason = format!("rollout against version {stable} begins with {share}");
        events.push(Event::new(EventKind::Started, &canary.name, reason));
        events
    }

    /// The shares of the stable version and the canary.
    pub(super) fn shares(&self, pair: &Pair) -> (f64, f64) {
        let share = match self.current(pair).map(|attempt| (&attempt.phase, attempt.share)) {
            None | Some((Phase::RolledBack { .. }, _)) => 0.0,
            Some((Phase::Promoted { .. }, _)) => 1.0,
            Some((Phase::Running, _)) if pair.stable.is_none() => 1.0,
            Some((Phase::Running, share)) => share,
        };
        (1.0 - share, share)
    }

    /// Judges the present step with what the two versions have counted until now.
    pub(super) fn tick(
        &mut self,
        policy: &RolloutPolicy,
        pair: &Pair,
        counted: Option<(Sample, Sample)>,
        say: Say,
        now: u64,
    ) -> Option<Event> {
        if say.steps_up()
            && let Some(event) = self.take_over(policy, pair, now)
        {
            return Some(event);
        }
        let (canary, stable) = counted?;
        let attempt = self.current_mut(pair).filter(|attempt| attempt.phase == Phase::Running)?;
        let event = attempt.judge(policy, &canary, &stable, say, now)?;
        if event.kind == EventKind::Promoted && policy.pair.is_none() {
            self.promoted = Some(event.version.clone());
        }
        Some(event)
    }

    /// Whether a canary is on its way, here or on another host.
    pub(super) fn is_running(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.phase == Phase::Running)
    }

    /// Whether the same was decided, though steps may have begun at other times and canaries come in another
    /// order.
    pub(super) fn decides_as(&self, other: &Self) -> bool {
        let same = |one: &Attempt, two: &Attempt| {
            let name = (&one.stable, &one.canary, &one.digest) == (&two.stable, &two.canary, &two.digest);
            name && (one.step, one.share, &one.phase) == (two.step, two.share, &two.phase)
        };
        self.promoted == other.promoted
            && self.attempts.len() == other.attempts.len()
            && self.attempts.iter().all(|one| other.attempts.iter().any(|two| same(one, two)))
    }

    /// Takes over what was decided elsewhere. A step that goes on keeps what was counted in it here; `counted` is
    /// what the one after it begins with.
    pub(super) fn adopt(&mut self, other: &Self, counted: Option<(Sample, Sample)>) {
        let mut attempts = other.attempts.clone();
        for attempt in &mut attempts {
            let is_same = |own: &&Attempt| own.canary == attempt.canary && own.digest == attempt.digest;
            let Some(own) = self.attempts.iter().find(is_same) else {
                continue;
            };
            let goes_on = own.phase == Phase::Running && attempt.phase == Phase::Running;
            if goes_on && own.step == attempt.step {
                attempt.window = own.window.clone();
            } else if goes_on && own.step + 1 == attempt.step {
                let begin = |(canary, stable): &(Sample, Sample)| own.window.next(canary, stable);
                attempt.window = counted.as_ref().map(begin).unwrap_or_default();
            }
        }
        let excess = attempts.len().saturating_sub(MAX_ATTEMPTS);
        attempts.drain(..excess);
        (self.promoted, self.attempts, self.guessed) = (other.promoted.clone(), attempts, false);
    }

    /// Promotes, takes back, or tries again.
    pub(super) fn command(
        &mut self,
        policy: &RolloutPolicy,
        pair: &Pair,
        command: Command,
        now: u64,
    ) -> Result<Event, String> {
        let by_itself = policy.pair.is_none();
        let Some(attempt) = self.current_mut(pair) else {
            return Err("there is no canary that is ready".to_owned());
        };
        let canary = attempt.canary.clone();
        match (command, &attempt.phase) {
            (Command::Promote, Phase::Running) => {
                let event = attempt.promote("promoted by command", now);
                if by_itself {
                    self.promoted = Some(canary);
                }
                Ok(event)
            }
            (Command::Promote, Phase::RolledBack { .. }) => {
                Err(format!("version {canary} was rolled back; retry it first"))
            }
            (Command::Promote, Phase::Promoted { .. }) => {
                Err(format!("version {canary} was promoted already"))
            }
            (Command::Abort, Phase::RolledBack { .. }) => {
                Err(format!("version {canary} was rolled back already"))
            }
            (Command::Abort, _) => Ok(attempt.roll_back("taken back by command", now)),
            (Command::Retry, Phase::RolledBack { .. }) => Ok(attempt.retry(policy, now)),
            (Command::Retry, _) => Err(format!("version {canary} was not rolled back")),
            (Command::Switch(_), _) => Err("traffic is a rollout, not blue-green".to_owned()),
        }
    }

    /// A canary that served alone for as long as a step lasts, because the version before is gone, takes
    /// its place.
    fn take_over(&mut self, policy: &RolloutPolicy, pair: &Pair, now: u64) -> Option<Event> {
        let long = now.saturating_sub(self.alone_since?) >= millis(policy.hold);
        if policy.pair.is_some() || !long {
            return None;
        }
        let attempt = self.current_mut(pair).filter(|attempt| attempt.phase == Phase::Running)?;
        let reason = format!("version {} is gone, there is nothing to compare with", attempt.stable);
        attempt.phase = Phase::Promoted { at: now };
        let event = Event::new(EventKind::Promoted, &attempt.canary, reason);
        self.promoted = Some(attempt.canary.clone());
        Some(event)
    }
}

/// A duration in milliseconds.
pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Attempt {
    fn is_of(&self, version: &ReadyVersion) -> bool {
        self.canary == version.name && self.digest == version.digest
    }

    fn go_to(&mut self, policy: &RolloutPolicy, step: usize) {
        self.step = step;
        self.share = policy.share(step);
    }

    /// While one of the two is away nothing is counted, and the step begins anew afterwards.
    fn interrupt(&mut self, away: bool, now: u64) {
        if !away && self.window.interrupted {
            self.since = now;
        }
        if away || self.window.interrupted {
            self.window = Window::without_base(self.window.stable_before.take(), away);
        }
    }

    /// What a running attempt waits for.
    pub(super) fn waits_for(&self, pair: &Pair) -> String {
        match (&pair.stable, &pair.canary) {
            (_, Some(canary)) if !self.is_of(canary) => format!("version {} comes first", canary.name),
            (_, None) => format!("version {}, which is not ready", self.canary),
            (None, _) => format!("version {} (stable), which is not ready", self.stable),
            _ => self.window.waits_for.clone(),
        }
    }

    fn judge(
        &mut self,
        policy: &RolloutPolicy,
        canary: &Sample,
        stable: &Sample,
        say: Say,
        now: u64,
    ) -> Option<Event> {
        self.since = self.since.min(now);
        let held = now - self.since;
        let last = self.step + 1 >= policy.steps.len();
        if say == Say::Leads && last && self.step > 0 && self.window.has_nothing_to_compare() {
            // A host that took over in the last step has not seen the stable version in those before.
            self.go_to(policy, self.step - 1);
            (self.since, self.window) = (now, Window::default());
            return None;
        }
        match self.window.judge(policy, last, canary, stable, held) {
            Verdict::Wait => None,
            Verdict::RollBack(reason) if say.takes_back() => Some(self.roll_back(&reason, now)),
            Verdict::Up | Verdict::RollBack(_) if !say.steps_up() => {
                say.waits_for().clone_into(&mut self.window.waits_for);
                None
            }
            Verdict::RollBack(reason) => Some(self.roll_back(&reason, now)),
            Verdict::Up if last => Some(self.promote("all steps kept to the gates", now)),
            Verdict::Up => {
                self.window = self.window.next(canary, stable);
                self.go_to(policy, self.step + 1);
                self.since = now;
                let share = policy.steps.get(self.step).map(ToString::to_string).unwrap_or_default();
                let reason = format!("the gates were kept to; {share} from now on");
                Some(Event::new(EventKind::SteppedUp, &self.canary, reason))
            }
        }
    }

    pub(super) fn roll_back(&mut self, reason: &str, now: u64) -> Event {
        self.phase = Phase::RolledBack { reason: reason.to_owned(), at: now };
        Event::new(EventKind::RolledBack, &self.canary, reason)
    }

    pub(super) fn promote(&mut self, reason: &str, now: u64) -> Event {
        self.phase = Phase::Promoted { at: now };
        Event::new(EventKind::Promoted, &self.canary, reason)
    }

    pub(super) fn retry(&mut self, policy: &RolloutPolicy, now: u64) -> Event {
        (self.phase, self.since) = (Phase::Running, now);
        self.go_to(policy, 0);
        self.window = Window::default();
        Event::new(EventKind::Started, &self.canary, "tried again by command")
    }
}
