//! What to load and what to let go, decided from scans and from how loads ended.
//!
//! Owns the rules of a hot swap. It is pure: the time is handed in, and it touches neither folders nor
//! generations, so that random histories can be run through it.
//!
//! - A content is loaded once it has been the same in two scans, `quiet` apart. (A complete manifest could
//!   stand for the wait: [`Tracked::see`] is the place.)
//! - A generation is replaced only by one that loaded. It is let go when its folder is gone, or when
//!   `model.yaml` asks for others and those serve.
//! - What failed is tried again, later each time; new content is tried at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::scan::{Candidate, Key, Scan};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// How a load ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// There is a generation of just this content.
    Loaded,
    /// There is none, for this reason.
    Failed(String),
    /// The files changed while they were read: whatever came of it counts for nothing.
    Moved,
}

/// Why a content does not serve.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    pub(super) reason: String,
    /// When this content failed first.
    pub(super) since: Instant,
    /// When it is tried again, if it is.
    pub(super) retry: Option<Instant>,
}

/// How a version stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Standing {
    /// Waiting for its files to be still, or being loaded.
    Loading,
    /// Its content serves.
    Ready,
    /// An earlier content serves, because the present one failed.
    Outdated(Failure),
    /// Nothing of it serves.
    Failed(Failure),
    /// It is no longer there.
    Gone,
}

#[derive(Clone, Debug, PartialEq)]
enum Sighting {
    Wanted(Arc<Candidate>),
    Missing(String),
    Superseded,
    Absent,
}

#[derive(Debug)]
struct Failed {
    content: Arc<Candidate>,
    failure: Failure,
    tries: u32,
}

#[derive(Debug)]
struct Tracked {
    sighting: Sighting,
    since: Instant,
    scans: u32,
    /// The sighting has been the same for long enough to be acted upon.
    settled: bool,
    /// Its model could not be looked at in the last scan.
    blind: bool,
    serving: Option<Arc<Candidate>>,
    loading: Option<Arc<Candidate>>,
    failed: Option<Failed>,
    shown: Option<Standing>,
}

impl Tracked {
    fn new(now: Instant) -> Self {
        Self {
            sighting: Sighting::Absent,
            since: now,
            scans: 0,
            settled: false,
            blind: false,
            serving: None,
            loading: None,
            failed: None,
            shown: None,
        }
    }

    /// Takes in what a scan saw. `known_old` spares the wait: the files themselves say how old they are.
    fn see(&mut self, sighting: Sighting, now: Instant, quiet: Duration, known_old: bool) {
        self.blind = false;
        if self.scans == 0 || self.sighting != sighting {
            (self.sighting, self.since, self.scans, self.settled) = (sighting, now, 1, known_old);
            return;
        }
        self.scans = self.scans.saturating_add(1);
        self.settled |= now.saturating_duration_since(self.since) >= quiet;
    }

    fn wanted(&self) -> Option<&Arc<Candidate>> {
        match &self.sighting {
            Sighting::Wanted(candidate) => Some(candidate),
            _ => None,
        }
    }

    /// Its present content serves.
    fn is_current(&self) -> bool {
        self.wanted().is_some_and(|wanted| self.serving.as_ref() == Some(wanted))
    }

    /// How the present content failed.
    fn present_failure(&self) -> Option<&Failed> {
        let wanted = self.wanted()?;
        self.failed.as_ref().filter(|failed| failed.content == *wanted)
    }

    /// It may still become ready without anybody doing anything.
    fn is_pending(&self) -> bool {
        self.wanted().is_some() && !self.is_current() && self.present_failure().is_none()
    }

    /// The content to load now, if any.
    fn due(&self, now: Instant) -> Option<Arc<Candidate>> {
        if !self.settled || self.loading.is_some() || self.is_current() {
            return None;
        }
        let waits = self.present_failure().and_then(|failed| failed.failure.retry).is_some_and(|at| at > now);
        if waits { None } else { self.wanted().cloned() }
    }

    fn standing(&self) -> Standing {
        let failure = self.failed.as_ref().map(|failed| &failed.failure);
        if self.serving.is_some() {
            return failure.map_or(Standing::Ready, |failure| Standing::Outdated(failure.clone()));
        }
        if let Sighting::Missing(reason) = &self.sighting {
            return Standing::Failed(Failure { reason: reason.clone(), since: self.since, retry: None });
        }
        match (self.present_failure(), self.wanted(), &self.shown) {
            (Some(failed), ..) => Standing::Failed(failed.failure.clone()),
            // On its way out: as it was.
            (None, None, Some(shown)) => shown.clone(),
            _ => Standing::Loading,
        }
    }

    fn fail(&mut self, content: Arc<Candidate>, reason: String, now: Instant) {
        let before = self.failed.take().filter(|failed| failed.content == content);
        let tries = before.as_ref().map_or(1, |failed| failed.tries.saturating_add(1));
        let since = before.map_or(now, |failed| failed.failure.since);
        let wait = FIRST_RETRY.saturating_mul(1 << (tries - 1).min(10)).min(LONGEST_RETRY);
        self.failed =
            Some(Failed { content, failure: Failure { reason, since, retry: Some(now + wait) }, tries });
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reconciler {
    quiet: Duration,
    tracked: BTreeMap<Key, Tracked>,
    has_scanned: bool,
    gone: Vec<Key>,
}

impl Reconciler {
    pub(super) fn new(quiet: Duration) -> Self {
        Self { quiet, tracked: BTreeMap::new(), has_scanned: false, gone: Vec::new() }
    }

    /// Takes in a scan; returns what to load.
    pub(super) fn observe(&mut self, now: Instant, scan: &Scan) -> Vec<Arc<Candidate>> {
        let first = !std::mem::replace(&mut self.has_scanned, true);
        let known: BTreeSet<String> = self.tracked.keys().map(|(model, _)| model.clone()).collect();
        let is_blind = |model: &String| scan.unreadable.contains(model) && known.contains(model);
        let missing = scan.missing.iter().map(|(key, reason)| (key, Sighting::Missing(reason.clone())));
        let wanted =
            scan.wanted.iter().map(|(key, candidate)| (key, Sighting::Wanted(Arc::clone(candidate))));
        for (key, sighting) in wanted.chain(missing).filter(|((model, _), _)| !is_blind(model)) {
            let tracked = self.tracked.entry(key.clone()).or_insert_with(|| Tracked::new(now));
            tracked.see(sighting, now, self.quiet, first && scan.old.contains(key));
        }
        for (key, tracked) in &mut self.tracked {
            if is_blind(&key.0) {
                tracked.blind = true;
            } else if !scan.wanted.contains_key(key) && !scan.missing.contains_key(key) {
                let superseded = scan.superseded.contains(key);
                let sighting = if superseded { Sighting::Superseded } else { Sighting::Absent };
                tracked.see(sighting, now, self.quiet, false);
            }
        }
        let models: BTreeSet<String> = self.tracked.keys().map(|(model, _)| model.clone()).collect();
        models.iter().filter(|model| !is_blind(model)).flat_map(|model| self.decide(model, now)).collect()
    }

    /// Takes in how a load ended; returns whether its generation is to be published, and what to load.
    pub(super) fn finished(
        &mut self,
        now: Instant,
        candidate: &Arc<Candidate>,
        outcome: Outcome,
    ) -> (bool, Vec<Arc<Candidate>>) {
        let key = candidate.key();
        let Some(tracked) = self.tracked.get_mut(&key) else {
            return (false, Vec::new());
        };
        tracked.loading = None;
        let is_wanted = tracked.wanted() == Some(candidate);
        let mut publish = false;
        match outcome {
            Outcome::Loaded if is_wanted => {
                (tracked.serving, tracked.failed, publish) = (Some(Arc::clone(candidate)), None, true);
            }
            Outcome::Failed(reason) if is_wanted => tracked.fail(Arc::clone(candidate), reason, now),
            Outcome::Moved if is_wanted => {
                (tracked.since, tracked.scans, tracked.settled) = (now, 0, false);
            }
            _ => {}
        }
        (publish, self.decide(&key.0, now))
    }

    fn decide(&mut self, model: &str, now: Instant) -> Vec<Arc<Candidate>> {
        let of_model = |key: &Key| key.0 == model;
        let all = self.tracked.iter().filter(|(key, _)| of_model(key)).map(|(_, tracked)| tracked);
        let (mut pending, mut complete) = (false, true);
        for tracked in all {
            pending |= tracked.is_pending();
            complete &= match tracked.sighting {
                Sighting::Wanted(_) => tracked.is_current(),
                Sighting::Missing(_) => false,
                Sighting::Superseded | Sighting::Absent => true,
            };
        }
        let mut loads = Vec::new();
        for (key, tracked) in self.tracked.iter_mut().filter(|(key, _)| of_model(key)) {
            if !tracked.settled {
                continue;
            }
            let let_go = match tracked.sighting {
                Sighting::Wanted(_) => false,
                Sighting::Missing(_) | Sighting::Absent => !pending,
                Sighting::Superseded => complete,
            };
            if let_go {
                tracked.serving = None;
            }
            if tracked.is_current() || tracked.wanted().is_none() {
                tracked.failed = None;
            }
            if let Some(candidate) = tracked.due(now) {
                tracked.loading = Some(Arc::clone(&candidate));
                loads.push(candidate);
            }
            let is_left = matches!(tracked.sighting, Sighting::Superseded | Sighting::Absent);
            if is_left && tracked.serving.is_none() && tracked.loading.is_none() {
                self.gone.push(key.clone());
            }
        }
        for key in &self.gone {
            self.tracked.remove(key);
        }
        loads
    }

    /// How versions stand, of those that stand otherwise than at the last call.
    pub(super) fn changes(&mut self) -> Vec<(Key, Standing)> {
        let mut changes: Vec<_> = self.gone.drain(..).map(|key| (key, Standing::Gone)).collect();
        for (key, tracked) in &mut self.tracked {
            let standing = tracked.standing();
            if tracked.shown.as_ref() != Some(&standing) {
                tracked.shown = Some(standing.clone());
                changes.push((key.clone(), standing));
            }
        }
        changes
    }

    /// When the next scan can bring something about that no event will tell of.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let wakes = self.tracked.values().filter(|tracked| !tracked.blind).filter_map(|tracked| {
            if !tracked.settled {
                return Some(tracked.since + self.quiet);
            }
            let retry = tracked.present_failure().and_then(|failed| failed.failure.retry);
            retry.filter(|_| tracked.loading.is_none())
        });
        wakes.min()
    }

    /// How many versions are waited for: those that load, and while `patient` those that are not still yet.
    pub(super) fn waited_for(&self, patient: bool) -> usize {
        let is_waited_for = |tracked: &&Tracked| tracked.is_pending() && (tracked.settled || patient);
        self.tracked.values().filter(is_waited_for).count()
    }
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
