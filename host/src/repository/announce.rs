//! What everybody is told of versions: the index, metrics and the log.
//!
//! Owns that each change of a state shows in all three, once. It decides nothing.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::keeper::Keeper;
use super::reconcile::{Failure, Standing};
use super::scan::Key;
use super::status::{LoadFailure, LoadStage, VersionStatus};
use crate::pipeline::Generation;

/// How long what a version has counted is told after it has left the index: some scrapes.
const REMEMBERED: Duration = Duration::from_secs(15 * 60);
/// Why a model that an operator took out does not serve.
const UNLOADED: &str = "it was unloaded; load it to serve it again";

impl Keeper {
    pub(super) fn show_changes(&mut self) {
        for (key, standing) in self.reconciler.changes() {
            let serves = matches!(standing, Standing::Ready | Standing::Outdated(_));
            if !serves && let Some(generation) = self.generations.remove(&key) {
                self.let_go(&key, generation);
            }
            self.show(&key, standing);
        }
    }

    /// Versions come and go for as long as the host lives: what those have counted that are long gone is told no
    /// longer.
    pub(super) fn forget_gone(&mut self, now: Instant) {
        let told = &self.told;
        let (long_gone, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.gone)
            .into_iter()
            .filter(|(key, _)| !told.contains_key(key))
            .partition(|(_, since)| now.saturating_duration_since(*since) >= REMEMBERED);
        self.gone = rest;
        for ((model, version), _) in long_gone {
            self.loader.metrics.forget(&model, &version);
        }
    }

    /// Shows how a version stands now, after something beside its standing has changed.
    pub(super) fn show_again(&mut self, key: &Key) {
        let standing = self.reconciler.standing(key);
        self.show(key, standing);
    }

    /// Shows a new generation to requests.
    pub(super) fn show_published(
        &mut self,
        key: &Key,
        generation: &Arc<Generation>,
        replaced: bool,
        took: Duration,
    ) {
        let (model, version) = (key.0.as_str(), key.1.as_str());
        self.index.set(model, version, &VersionStatus::Ready(Arc::clone(generation)));
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(model, version, took_ms, replaced, "the version is ready");
        self.loader.metrics.changed_state(model, "ready");
        self.told.insert(key.clone(), ("ready", String::new()));
    }

    /// A work has come to its next stage.
    pub(super) fn note_stage(&mut self, (key, number, stage): (Key, u64, LoadStage)) {
        match self.stages.get_mut(&key) {
            Some((running, at)) if *running == number => *at = Some(stage),
            _ => return,
        }
        let standing = self.reconciler.standing(&key);
        // What failed before and is tried again is no news.
        if matches!(standing, Standing::Ready | Standing::Standby(_)) {
            self.loader.metrics.changed_state(&key.0, stage.as_str());
        }
        if standing == Standing::Ready {
            let (model, version, stage) = (key.0.as_str(), key.1.as_str(), stage.as_str());
            tracing::info!(model, version, stage, "new content is on its way");
        }
        self.show_again(&key);
    }

    /// A generation of a version has been freed.
    pub(super) fn note_freed(&mut self, key: Option<Key>) {
        self.trim.ask();
        let Some(key) = key else {
            return;
        };
        let left = self.draining.get_mut(&key).map_or(0, |all| {
            all.retain(|draining| !draining.is_freed());
            all.len()
        });
        if left > 0 {
            return;
        }
        self.draining.remove(&key);
        if !self.generations.contains_key(&key) {
            self.loader.metrics.unloaded(&key.0, &key.1);
        }
        self.show_again(&key);
    }

    fn status(&self, key: &Key, standing: Standing) -> Option<VersionStatus> {
        let stage = self.stages.get(key).and_then(|(_, stage)| *stage);
        let draining = self.draining.get(key).and_then(|all| all.last());
        Some(match (standing, self.generations.get(key), draining) {
            (Standing::Ready, Some(generation), _) => VersionStatus::Ready(Arc::clone(generation)),
            (Standing::Outdated(failure), Some(generation), _) => {
                VersionStatus::Outdated(Arc::clone(generation), dated(failure))
            }
            (Standing::Standby(failure), _, _) if self.doors.contains_key(key) => {
                VersionStatus::Standby(Arc::clone(self.doors.get(key)?), failure.map(dated))
            }
            (Standing::Loading | Standing::Ready | Standing::Outdated(_) | Standing::Standby(_), _, _) => {
                stage.map_or(VersionStatus::Discovered, VersionStatus::Loading)
            }
            (Standing::Gone | Standing::Unloaded(_) | Standing::Failed(_), _, Some(draining)) => {
                VersionStatus::Draining(draining.clone())
            }
            (Standing::Gone, _, None) => return None,
            (Standing::Unloaded(since), _, None) => {
                let reason = UNLOADED.to_owned();
                VersionStatus::Unloaded(dated(Failure { reason, since, retry: None }))
            }
            (Standing::Failed(failure), _, None) => VersionStatus::Failed(dated(failure)),
        })
    }

    fn show(&mut self, key: &Key, standing: Standing) {
        let (model, version) = (key.0.as_str(), key.1.as_str());
        self.prepare_door(key, &standing);
        let status = self.status(key, standing);
        let Some(status) = status else {
            self.loader.metrics.states(model, version, &[]);
            self.gone.push((key.clone(), Instant::now()));
            self.index.remove(model, version);
            self.close_door(key);
            if self.told.remove(key).is_some_and(|(state, _)| state == "draining") {
                self.loader.metrics.changed_state(model, "unloaded");
                tracing::info!(model, version, "the version is unloaded, and out of the index");
            }
            return;
        };
        let mut states = vec![status.as_str()];
        if status.is_ready() {
            states.push("ready");
            states.extend(self.stages.get(key).and_then(|(_, stage)| *stage).map(LoadStage::as_str));
        }
        self.index.set(model, version, &status);
        match &status {
            VersionStatus::Standby(..) => {}
            VersionStatus::Failed(failure) => self.shut_door(key, &failure.reason),
            _ => self.close_door(key),
        }
        self.loader.metrics.states(model, version, &states);
        self.tell(key, &status);
    }

    /// One line for each transition; another try that ends as the one before is none.
    fn tell(&mut self, key: &Key, status: &VersionStatus) {
        let (model, version) = (key.0.as_str(), key.1.as_str());
        let reason = status.failure().map(|failure| failure.reason.clone()).unwrap_or_default();
        let news = (status.as_str(), reason);
        if self.told.get(key) == Some(&news) {
            return;
        }
        let reason = &news.1;
        match status {
            VersionStatus::Discovered => tracing::info!(model, version, "the version was found"),
            VersionStatus::Loading(LoadStage::Validating) => {
                tracing::info!(model, version, "the version is being validated");
            }
            VersionStatus::Loading(LoadStage::Loading) => {
                tracing::info!(model, version, "the version is being loaded");
            }
            VersionStatus::Loading(LoadStage::Warming) => {
                tracing::info!(model, version, "the version is being warmed up");
            }
            VersionStatus::Ready(_) => {
                tracing::info!(model, version, "the version's own content serves again")
            }
            VersionStatus::Standby(_, Some(_)) => {
                tracing::error!(model, version, %reason, "what model.yaml says cannot be put into effect");
            }
            VersionStatus::Standby(_, None) => {
                tracing::info!(model, version, "the version is on standby: a request for it loads it");
            }
            VersionStatus::Draining(draining) => {
                let requests = draining.requests();
                tracing::info!(model, version, requests, "the version is no longer served");
            }
            VersionStatus::Unloaded(_) => tracing::info!(model, version, %reason, "the version is unloaded"),
            VersionStatus::Failed(_) => {
                tracing::error!(model, version, %reason, "the version cannot be served");
            }
            VersionStatus::Outdated(..) => {
                tracing::error!(model, version, %reason, "new content cannot replace what serves");
            }
        }
        self.loader.metrics.changed_state(model, status.as_str());
        self.told.insert(key.clone(), news);
    }
}

/// The points in time of a failure by the wall clock.
fn dated(failure: Failure) -> LoadFailure {
    let (now, wall) = (Instant::now(), SystemTime::now());
    let since = now.saturating_duration_since(failure.since);
    LoadFailure {
        reason: failure.reason,
        since: wall.checked_sub(since).unwrap_or(wall),
        next_retry: failure.retry.map(|at| wall + at.saturating_duration_since(now)),
    }
}
