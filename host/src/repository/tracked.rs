//! What is known of one version: how its folder looks, what of it serves, what is being loaded, what failed.
//!
//! Owns the rules that concern one version alone; what versions of a model mean to each other is the
//! reconciler's. It is as pure as that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::scan::Candidate;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// The longest pause after a load that took long to fail.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What is to be done to have a content served.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Work {
    pub(super) candidate: Arc<Candidate>,
    /// What serves has this content already: only the settings are to be applied to it.
    pub(super) apply: bool,
}

/// How a work ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// There is a generation of just this content, or the settings can be applied.
    Loaded,
    /// It could not be done, for this reason.
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
    /// An operator took it out, and nothing of it serves.
    Unloaded(Instant),
    /// Nothing of it serves.
    Failed(Failure),
    /// It is no longer there.
    Gone,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Sighting {
    Wanted(Arc<Candidate>),
    Missing(String),
    Superseded,
    Absent,
}

/// What spares a sighting the wait until it has been the same for long enough.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spared {
    /// The files themselves say how old they are.
    pub(super) old: bool,
    /// A manifest says that they are all there.
    pub(super) complete: bool,
}

#[derive(Debug)]
pub(super) struct Failed {
    pub(super) content: Arc<Candidate>,
    pub(super) failure: Failure,
    tries: u32,
    /// It is to be tried at once, because somebody asked for it.
    asked: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) sighting: Sighting,
    pub(super) since: Instant,
    scans: u32,
    /// The sighting has been the same for long enough to be acted upon.
    pub(super) settled: bool,
    /// Its model could not be looked at in the last scan.
    pub(super) blind: bool,
    pub(super) serving: Option<Arc<Candidate>>,
    pub(super) loading: Option<Work>,
    /// When the present load, or the last one, was asked for.
    pub(super) loading_since: Instant,
    pub(super) failed: Option<Failed>,
    pub(super) shown: Option<Standing>,
}

impl Tracked {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            sighting: Sighting::Absent,
            since: now,
            scans: 0,
            settled: false,
            blind: false,
            serving: None,
            loading: None,
            loading_since: now,
            failed: None,
            shown: None,
        }
    }

    /// Takes in what a scan saw that began and ended at these times: what is new is at least as old as its end,
    /// what is still the same was so at its beginning.
    pub(super) fn see(
        &mut self,
        sighting: Sighting,
        (began, ended): (Instant, Instant),
        quiet: Duration,
        spared: Spared,
    ) {
        self.blind = false;
        if self.scans == 0 || self.sighting != sighting {
            let settled = spared.old || (spared.complete && self.has_still_settings(&sighting));
            (self.sighting, self.since, self.scans, self.settled) = (sighting, ended, 1, settled);
            return;
        }
        self.scans = self.scans.saturating_add(1);
        self.settled |= spared.old || began.saturating_duration_since(self.since) >= quiet;
    }

    /// A manifest says nothing of `model.yaml`: that has to be readable, and as it was if it was known.
    fn has_still_settings(&self, sighting: &Sighting) -> bool {
        let Sighting::Wanted(next) = sighting else {
            return false;
        };
        let is_known = match &self.sighting {
            _ if self.scans == 0 => true,
            Sighting::Wanted(before) => before.source.settings == next.source.settings,
            Sighting::Absent => true,
            Sighting::Missing(_) | Sighting::Superseded => false,
        };
        is_known && next.source.settings.is_ok()
    }

    /// The next sighting counts as a new one.
    pub(super) fn look_again(&mut self, now: Instant) {
        (self.since, self.scans, self.settled) = (now, 0, false);
    }

    pub(super) fn wanted(&self) -> Option<&Arc<Candidate>> {
        match &self.sighting {
            Sighting::Wanted(candidate) => Some(candidate),
            _ => None,
        }
    }

    /// Its present content serves, with its present settings.
    pub(super) fn is_current(&self) -> bool {
        self.wanted().is_some_and(|wanted| self.serving.as_ref() == Some(wanted))
    }

    /// How the present content failed.
    pub(super) fn present_failure(&self) -> Option<&Failed> {
        let wanted = self.wanted()?;
        self.failed.as_ref().filter(|failed| failed.content == *wanted)
    }

    /// It may still become ready without anybody doing anything.
    pub(super) fn is_pending(&self) -> bool {
        self.wanted().is_some() && !self.is_current() && self.present_failure().is_none()
    }

    /// How it ended for somebody who waits for it: it serves, or the reason why not. `None` while it is open.
    pub(super) fn end(&self) -> Option<Result<(), &str>> {
        match (&self.sighting, self.present_failure()) {
            (Sighting::Missing(reason), _) => Some(Err(reason)),
            (Sighting::Wanted(_), Some(failed)) => {
                (!failed.asked).then_some(Err(failed.failure.reason.as_str()))
            }
            (Sighting::Wanted(_), None) => self.is_current().then_some(Ok(())),
            (Sighting::Superseded | Sighting::Absent, _) => Some(Ok(())),
        }
    }

    /// What to do now, if anything.
    pub(super) fn due(&self, now: Instant) -> Option<Work> {
        if !self.settled || self.loading.is_some() || self.is_current() {
            return None;
        }
        let retry = self.present_failure().map(|failed| failed.failure.retry);
        let waits = retry.is_some_and(|retry| retry.is_none_or(|at| at > now));
        let candidate = self.wanted().filter(|_| !waits)?;
        let apply = self.serving.as_ref().is_some_and(|serving| candidate.has_content_of(serving));
        Some(Work { candidate: Arc::clone(candidate), apply })
    }

    /// How it stands, if nobody holds it.
    pub(super) fn standing(&self) -> Standing {
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

    pub(super) fn fail(&mut self, content: Arc<Candidate>, reason: String, now: Instant) {
        let before = self.failed.take().filter(|failed| failed.content == content);
        let tries = before.as_ref().map_or(1, |failed| failed.tries.saturating_add(1));
        let since = before.map_or(now, |failed| failed.failure.since);
        let wait = FIRST_RETRY.saturating_mul(1 << (tries - 1).min(10)).min(LONGEST_RETRY);
        // What took long to fail takes no more than a tenth of the time.
        let cost = now.saturating_duration_since(self.loading_since);
        let wait = wait.max(cost.saturating_mul(9).min(LONGEST_PAUSE));
        let failure = Failure { reason, since, retry: Some(now + wait) };
        self.failed = Some(Failed { content, failure, tries, asked: false });
    }

    /// What serves turned out to be no good. It is tried again `after` so long, or when somebody asks for it.
    pub(super) fn give_up(&mut self, reason: String, now: Instant, after: Option<Duration>) {
        let content = self.serving.take();
        let wanted = self.wanted().cloned();
        let (Some(content), Some(wanted)) = (content, wanted) else {
            return;
        };
        // Another content has not been tried yet.
        if wanted.has_content_of(&content) {
            let failure = Failure { reason, since: now, retry: after.map(|after| now + after) };
            self.failed = Some(Failed { content: wanted, failure, tries: 1, asked: false });
        }
    }

    /// What failed is tried again now, as if for the first time.
    pub(super) fn forget_tries(&mut self, now: Instant) {
        if let Some(failed) = &mut self.failed {
            (failed.tries, failed.failure.retry, failed.asked) = (0, Some(now), true);
        }
    }
}
