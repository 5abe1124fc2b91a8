//! What to load and what to let go, decided from scans, from how loads ended and from commands.
//!
//! Owns the rules of a hot swap. It is pure: the time is handed in, and it touches neither folders nor
//! generations, so that random histories can be run through it.
//!
//! - A content is loaded once it has been the same in two scans, `quiet` apart, or at once if a manifest says
//!   that it is complete.
//! - A generation is replaced only by one that loaded. It is let go when its folder is gone, or when
//!   `model.yaml` asks for others and those serve.
//! - Settings that the loaded content does not depend on are applied to what serves.
//! - What failed is tried again, later each time; new content is tried at once.
//! - A model that is held by a command is out, whatever its folder says, until a command loads it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::scan::{Candidate, Key, Scan};
pub(super) use super::tracked::{Failure, Outcome, Standing, Work};
use super::tracked::{Sighting, Spared, Tracked};

/// See the module.
#[derive(Debug)]
pub(super) struct Reconciler {
    quiet: Duration,
    tracked: BTreeMap<Key, Tracked>,
    /// Models that an operator took out, and since when.
    held: BTreeMap<String, Instant>,
    /// Models that somebody waits for: the files' own times count for them.
    asked: BTreeSet<String>,
    /// Versions that are to serve in the place of others: the files' own times count for them.
    stand_ins: BTreeSet<Key>,
    has_scanned: bool,
    gone: Vec<Key>,
}

impl Reconciler {
    pub(super) fn new(quiet: Duration) -> Self {
        Self {
            quiet,
            tracked: BTreeMap::new(),
            held: BTreeMap::new(),
            asked: BTreeSet::new(),
            stand_ins: BTreeSet::new(),
            has_scanned: false,
            gone: Vec::new(),
        }
    }

    /// Takes in a scan that began `now`; returns what to do.
    pub(super) fn observe(&mut self, now: Instant, scan: &Scan) -> Vec<Work> {
        let first = !std::mem::replace(&mut self.has_scanned, true);
        let known: BTreeSet<String> = self.tracked.keys().map(|(model, _)| model.clone()).collect();
        let is_blind = |model: &String| scan.unreadable.contains(model) && known.contains(model);
        let missing = scan.missing.iter().map(|(key, reason)| (key, Sighting::Missing(reason.clone())));
        let wanted =
            scan.wanted.iter().map(|(key, candidate)| (key, Sighting::Wanted(Arc::clone(candidate))));
        for (key, sighting) in wanted.chain(missing).filter(|((model, _), _)| !is_blind(model)) {
            let tracked = self.tracked.entry(key.clone()).or_insert_with(|| Tracked::new(now));
            let spared = Spared {
                old: (first || self.asked.contains(&key.0) || self.stand_ins.contains(key))
                    && scan.old.contains(key),
                complete: scan.complete.contains(key),
            };
            tracked.see(sighting, (now, now + scan.took), self.quiet, spared);
        }
        for (key, tracked) in &mut self.tracked {
            if is_blind(&key.0) {
                tracked.blind = true;
            } else if !scan.wanted.contains_key(key) && !scan.missing.contains_key(key) {
                let superseded = scan.superseded.contains(key);
                let sighting = if superseded { Sighting::Superseded } else { Sighting::Absent };
                tracked.see(sighting, (now, now + scan.took), self.quiet, Spared::default());
            }
        }
        let models: BTreeSet<String> = self.tracked.keys().map(|(model, _)| model.clone()).collect();
        models.iter().filter(|model| !is_blind(model)).flat_map(|model| self.decide(model, now)).collect()
    }

    /// Takes in how a work ended; returns whether it is to be seen by requests, and what to do next.
    pub(super) fn finished(&mut self, now: Instant, work: &Work, outcome: Outcome) -> (bool, Vec<Work>) {
        let Work { candidate, apply } = work;
        let key = candidate.key();
        let Some(tracked) = self.tracked.get_mut(&key) else {
            return (false, Vec::new());
        };
        tracked.loading = None;
        let is_held = self.held.contains_key(&key.0);
        let is_wanted = tracked.wanted() == Some(candidate) && !is_held;
        // With other settings it still is what is wanted: they are applied next.
        let is_content = |other: &Arc<Candidate>| other.has_content_of(candidate);
        let has_place = !apply || tracked.serving.as_ref().is_some_and(is_content);
        let fits = tracked.wanted().is_some_and(is_content) && has_place && !is_held;
        match outcome {
            Outcome::Loaded if fits => {
                (tracked.serving, tracked.failed) = (Some(Arc::clone(candidate)), None);
            }
            Outcome::Failed(reason) if is_wanted => tracked.fail(Arc::clone(candidate), reason, now),
            Outcome::Moved => tracked.look_again(now),
            Outcome::Loaded | Outcome::Failed(_) => {}
        }
        let publish = fits && tracked.serving.as_ref() == Some(candidate);
        (publish, self.decide(&key.0, now))
    }

    /// What serves of a version turned out to be no good: it is let go. It is tried again `after` so long, or when
    /// somebody asks for it, or with new content.
    pub(super) fn give_up(
        &mut self,
        key: &Key,
        reason: String,
        now: Instant,
        after: Option<Duration>,
    ) -> Vec<Work> {
        let Some(tracked) = self.tracked.get_mut(key) else {
            return Vec::new();
        };
        tracked.give_up(reason, now, after);
        self.decide(&key.0, now)
    }

    /// Whether the content that a version's folder has now has failed.
    pub(super) fn is_failed(&self, key: &Key) -> bool {
        self.tracked.get(key).is_some_and(|tracked| tracked.present_failure().is_some())
    }

    /// The versions of a model that are to serve in the place of others.
    pub(super) fn set_stand_in(&mut self, model: &str, version: Option<&str>) {
        self.stand_ins.retain(|(name, _)| name != model);
        self.stand_ins.extend(version.map(|version| (model.to_owned(), version.to_owned())));
    }

    /// Takes a model out until it is asked for again. Returns whether there is such a model.
    pub(super) fn hold(&mut self, model: &str, now: Instant) -> bool {
        if !self.knows(model) {
            return self.held.contains_key(model);
        }
        self.held.entry(model.to_owned()).or_insert(now);
        self.asked.remove(model);
        self.decide(model, now);
        true
    }

    /// Somebody waits for a model: the next scan acts on its files as soon as they are still by their own
    /// times, and what failed is tried again.
    pub(super) fn ask(&mut self, model: &str, now: Instant) {
        self.asked.insert(model.to_owned());
        let of_model = self.tracked.iter_mut().filter(|(key, _)| key.0 == model);
        of_model.for_each(|(_, tracked)| tracked.forget_tries(now));
    }

    /// A model that was taken out may be loaded again.
    pub(super) fn unhold(&mut self, model: &str) {
        self.held.remove(model);
    }

    /// How it ended for those who asked for a model: the versions that serve as they are in the folder, or
    /// all reasons why none does. `None` while it is open.
    pub(super) fn answer(&mut self, model: &str) -> Option<Result<Vec<String>, String>> {
        let answer = self.find_answer(model)?;
        self.asked.remove(model);
        Some(answer)
    }

    fn find_answer(&self, model: &str) -> Option<Result<Vec<String>, String>> {
        if self.held.contains_key(model) {
            return Some(Err(format!("model '{model}' has been unloaded; load it first")));
        }
        let (mut ready, mut reasons) = (Vec::new(), Vec::new());
        for ((_, version), tracked) in self.tracked.iter().filter(|(key, _)| key.0 == model) {
            if tracked.blind {
                return Some(Err(format!("the folder of model '{model}' cannot be read")));
            }
            match tracked.end()? {
                Err(reason) => reasons.push(format!("version {version}: {reason}")),
                Ok(()) if tracked.is_current() => ready.push(version.clone()),
                Ok(()) => {}
            }
        }
        Some(match (ready.is_empty(), reasons.is_empty()) {
            (false, _) => Ok(ready),
            (true, false) => Err(reasons.join("\n")),
            (true, true) => Err(format!("there is no model '{model}' in the models folder")),
        })
    }

    /// Whether just this content has failed before.
    pub(super) fn has_failed(&self, candidate: &Candidate) -> bool {
        let failed = self.tracked.get(&candidate.key()).and_then(Tracked::present_failure);
        failed.is_some_and(|failed| *failed.content == *candidate)
    }

    /// Whether anything is known of a model.
    pub(super) fn knows(&self, model: &str) -> bool {
        self.tracked.keys().any(|(name, _)| name == model)
    }

    fn decide(&mut self, model: &str, now: Instant) -> Vec<Work> {
        let of_model = |key: &Key| key.0 == model;
        let is_held = self.held.contains_key(model);
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
        let mut work = Vec::new();
        for (key, tracked) in self.tracked.iter_mut().filter(|(key, _)| of_model(key)) {
            if is_held {
                (tracked.serving, tracked.failed) = (None, None);
            }
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
            if let Some(due) = tracked.due(now).filter(|_| !is_held) {
                (tracked.loading, tracked.loading_since) = (Some(due.clone()), now);
                work.push(due);
            }
            let is_left = matches!(tracked.sighting, Sighting::Superseded | Sighting::Absent);
            if is_left && tracked.serving.is_none() && tracked.loading.is_none() {
                self.gone.push(key.clone());
            }
        }
        for key in &self.gone {
            self.tracked.remove(key);
        }
        work
    }

    /// How a version stands.
    pub(super) fn standing(&self, key: &Key) -> Standing {
        match (self.tracked.get(key), self.held.get(&key.0)) {
            (None, _) => Standing::Gone,
            (Some(_), Some(since)) => Standing::Unloaded(*since),
            (Some(tracked), None) => tracked.standing(),
        }
    }

    /// How versions stand, of those that stand otherwise than at the last call.
    pub(super) fn changes(&mut self) -> Vec<(Key, Standing)> {
        let mut changes: Vec<_> = self.gone.drain(..).map(|key| (key, Standing::Gone)).collect();
        let keys: Vec<Key> = self.tracked.keys().cloned().collect();
        for key in keys {
            let standing = self.standing(&key);
            if let Some(tracked) = self.tracked.get_mut(&key)
                && tracked.shown.as_ref() != Some(&standing)
            {
                tracked.shown = Some(standing.clone());
                changes.push((key, standing));
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
        let is_waited_for = |(key, tracked): &(&Key, &Tracked)| {
            tracked.is_pending() && (tracked.settled || patient) && !self.held.contains_key(&key.0)
        };
        self.tracked.iter().filter(is_waited_for).count()
    }
}

#[cfg(test)]
#[path = "reconcile_histories.rs"]
mod histories;
#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
