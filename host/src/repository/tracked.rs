//! What is known of one version: how its folder looks, what of it serves, what is being loaded, what failed.
//!
//! Owns the rules that concern one version alone; what versions of a model mean to each other is the
//! reconciler's. It is as pure as that.
//!
//! What serves is in memory, or asleep: a lazy version that was validated or unloaded, and is loaded again once
//! somebody waits for it. Files that are no longer as they were cannot be woken.

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
    pub(super) task: Task,
}

/// How a content comes to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// It is loaded.
    Load,
    /// It is validated, to be loaded when somebody waits for it.
    Check,
    /// What serves has this content already: only the settings are to be applied to it.
    Apply,
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
    /// It was not begun, for this reason, which is no fault of the version: who asks again may have it.
    Refused(String),
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
    /// Its content is loaded when somebody asks for it; why other settings are not in effect, if they are not.
    Standby(Option<Failure>),
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
    /// Its time is over: what is left is how often it was tried.
    over: bool,
}

impl Failed {
    /// The next failure of a content after `before`, if that was the same.
    fn next(
        before: Option<Self>,
        content: Arc<Candidate>,
        reason: String,
        (since, now): (Instant, Instant),
    ) -> Self {
        let before = before.filter(|before| before.content == content);
        let tries = before.as_ref().map_or(1, |failed| failed.tries.saturating_add(1));
        let first = before.filter(|before| !before.over).map_or(now, |failed| failed.failure.since);
        let wait = FIRST_RETRY.saturating_mul(1 << (tries - 1).min(10)).min(LONGEST_RETRY);
        // What took long to fail takes no more than a tenth of the time.
        let cost = now.saturating_duration_since(since);
        let wait = wait.max(cost.saturating_mul(9).min(LONGEST_PAUSE));
        let failure = Failure { reason, since: first, retry: Some(now + wait) };
        Self { content, failure, tries, asked: false, over: false }
    }

    fn forget_tries(&mut self, now: Instant) {
        (self.tries, self.failure.retry, self.asked) = (0, Some(now), true);
    }
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
    /// What serves is not in memory.
    pub(super) asleep: bool,
    /// Somebody waits for it to be there.
    pub(super) awaited: bool,
    /// How waking it failed.
    unwoken: Option<Failed>,
    /// Why there was no room when it was awaited last.
    pub(super) refused: Option<String>,
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
            asleep: false,
            awaited: false,
            unwoken: None,
            refused: None,
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
            (Sighting::Wanted(_), None) if !self.is_current() => None,
            (Sighting::Wanted(_), None) => self.end_of_waking(),
            (Sighting::Superseded | Sighting::Absent, _) => Some(Ok(())),
        }
    }

    fn end_of_waking(&self) -> Option<Result<(), &str>> {
        match (self.unwoken(), &self.refused) {
            (Some(failed), _) => (!failed.asked).then_some(Err(failed.failure.reason.as_str())),
            (None, Some(reason)) => Some(Err(reason)),
            (None, None) => (!self.awaited).then_some(Ok(())),
        }
    }

    /// Why what is asleep cannot be woken at the moment.
    pub(super) fn unwoken(&self) -> Option<&Failed> {
        self.unwoken.as_ref().filter(|failed| self.asleep && !failed.over)
    }

    /// Whether the files of what serves are still those that are there, as far as that is looked at.
    fn has_its_files(&self) -> bool {
        let same = |wanted: &Arc<Candidate>| {
            self.serving.as_ref().is_some_and(|serving| wanted.has_files_of(serving))
        };
        match &self.sighting {
            Sighting::Wanted(wanted) => same(wanted),
            Sighting::Superseded => true,
            Sighting::Missing(_) | Sighting::Absent => false,
        }
    }

    /// Whether this work is to bring back what is asleep.
    pub(super) fn is_woken_by(&self, work: &Work) -> bool {
        let same = |serving: &Arc<Candidate>| serving.has_content_of(&work.candidate);
        work.task == Task::Load && self.asleep && self.serving.as_ref().is_some_and(same)
    }

    /// What to do now, if anything.
    pub(super) fn due(&self, now: Instant) -> Option<Work> {
        if self.loading.is_some() {
            return None;
        }
        if let Some(serving) = self.serving.as_ref().filter(|_| self.asleep && self.awaited)
            && self.unwoken().is_none()
            && self.scans > 0
            && self.has_its_files()
        {
            return Some(Work { candidate: Arc::clone(serving), task: Task::Load });
        }
        if !self.settled || self.is_current() {
            return None;
        }
        let retry = self.present_failure().map(|failed| failed.failure.retry);
        let waits = retry.is_some_and(|retry| retry.is_none_or(|at| at > now));
        let candidate = self.wanted().filter(|_| !waits)?;
        let is_awake = self.is_awake();
        let is_content = |serving: &Arc<Candidate>| candidate.has_content_of(serving);
        let task = match &self.serving {
            Some(serving) if is_awake && is_content(serving) => Task::Apply,
            _ if candidate.is_lazy() && !is_awake && !self.awaited => Task::Check,
            _ => Task::Load,
        };
        Some(Work { candidate: Arc::clone(candidate), task })
    }

    /// Puts right what concerns a version that is asleep: settings need no load, an obstacle is over, files that
    /// are gone cannot be woken.
    pub(super) fn turn_over(&mut self, now: Instant) {
        if !self.asleep {
            return;
        }
        if let Some(failed) = &mut self.unwoken {
            failed.over |= failed.failure.retry.is_some_and(|at| at <= now) && !failed.asked;
        }
        let same = |wanted: &&Arc<Candidate>| {
            self.serving.as_ref().is_some_and(|serving| wanted.has_content_of(serving))
        };
        if self.settled
            && let Some(wanted) = self.wanted().filter(same).filter(|wanted| wanted.is_lazy())
        {
            self.serving = Some(Arc::clone(wanted));
        }
        let is_lost = match &self.sighting {
            Sighting::Wanted(_) => !self.has_its_files() && self.present_failure().is_some(),
            Sighting::Superseded => false,
            Sighting::Missing(_) | Sighting::Absent => self.settled,
        };
        if is_lost {
            self.let_go();
        }
    }

    /// Nothing of it serves any more.
    pub(super) fn let_go(&mut self) {
        (self.serving, self.unwoken, self.refused) = (None, None, None);
        (self.asleep, self.awaited) = (false, false);
    }

    /// This content serves from now on.
    pub(super) fn serve(&mut self, content: Arc<Candidate>, asleep: bool) {
        let refused = self.refused.take().filter(|_| asleep);
        self.let_go();
        (self.serving, self.asleep, self.refused) = (Some(content), asleep, refused);
    }

    /// Something of it is in memory.
    pub(super) fn is_awake(&self) -> bool {
        self.serving.is_some() && !self.asleep
    }

    /// Takes what serves out of memory, if it can be brought back.
    pub(super) fn rest(&mut self) -> bool {
        let is_lazy = self.serving.as_ref().is_some_and(|serving| serving.is_lazy());
        let can = is_lazy && self.is_current() && !self.asleep && self.loading.is_none();
        (self.asleep, self.awaited) = (self.asleep || can, self.awaited && !can);
        can
    }

    /// Somebody waits for what is asleep.
    pub(super) fn wake(&mut self) {
        if self.unwoken().is_none() {
            (self.awaited, self.refused) = (true, None);
        }
    }

    /// How it stands, if nobody holds it.
    pub(super) fn standing(&self) -> Standing {
        let failure = self.failed.as_ref().map(|failed| &failed.failure);
        if let Some(unwoken) = self.unwoken() {
            return Standing::Failed(unwoken.failure.clone());
        }
        if self.asleep {
            return Standing::Standby(failure.cloned());
        }
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
        let failed = Failed::next(self.failed.take(), content, reason, (self.loading_since, now));
        (self.failed, self.awaited) = (Some(failed), false);
    }

    /// What is asleep could not be brought back.
    pub(super) fn fail_to_wake(&mut self, content: Arc<Candidate>, reason: String, now: Instant) {
        let failed = Failed::next(self.unwoken.take(), content, reason, (self.loading_since, now));
        (self.unwoken, self.awaited) = (Some(failed), false);
    }

    /// What serves turned out to be no good. It is tried again `after` so long, or when somebody asks for it.
    pub(super) fn give_up(&mut self, reason: String, now: Instant, after: Option<Duration>) {
        let content = self.serving.take();
        self.let_go();
        let wanted = self.wanted().cloned();
        let (Some(content), Some(wanted)) = (content, wanted) else {
            return;
        };
        // Another content has not been tried yet.
        if wanted.has_content_of(&content) {
            let failure = Failure { reason, since: now, retry: after.map(|after| now + after) };
            self.failed = Some(Failed { content: wanted, failure, tries: 1, asked: false, over: false });
        }
    }

    /// What failed is tried again now, as if for the first time.
    pub(super) fn forget_tries(&mut self, now: Instant) {
        self.failed.iter_mut().for_each(|failed| failed.forget_tries(now));
        (self.unwoken, self.refused) = (None, None);
    }

    /// When it is tried again, if it failed and nothing goes on.
    pub(super) fn retry(&self) -> Option<Instant> {
        let failed = self.present_failure().into_iter().chain(self.unwoken());
        failed.filter_map(|failed| failed.failure.retry).min().filter(|_| self.loading.is_none())
    }
}
