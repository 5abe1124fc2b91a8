//! Traffic that moves by itself: rollouts step by step, bandits by what they learn.
//!
//! Owns the clock of all models' traffic, what is told of their moves, and that what they must remember is
//! kept. Requests do not wait for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::commands::KeeperHandle;
use super::decisions::{Decisions, policy};
use super::index::ModelIndex;
use super::sharing::{SharedState, Sharing};
use crate::config::ModelConfig;
use crate::telemetry::{ArmCount, Metrics};
use crate::traffic::{ArmStatus, Command, Event, EventKind, Traffic};

/// From one look at all models' traffic to the next.
const BEAT: Duration = Duration::from_millis(250);
/// How often at most what changes with every beat is written to the disk.
const SAVE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Clone, Debug)]
pub struct Steering {
    index: Arc<ModelIndex>,
    decisions: Arc<Decisions>,
    metrics: Arc<Metrics>,
    /// What other nodes have a say in; `None` where there are none.
    sharing: Option<Arc<Sharing>>,
    /// One change of a model's traffic at a time.
    setting: Arc<Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

/// Why traffic was not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// It cannot be kept on the disk.
    #[error("{0}")]
    NotKept(String),
    /// A version that it names is not ready.
    #[error("{0}")]
    NotReady(String),
}

impl Steering {
    /// Steers the models of an index, by itself or with other nodes.
    pub fn new(
        index: Arc<ModelIndex>,
        decisions: Arc<Decisions>,
        metrics: Arc<Metrics>,
        sharing: Option<Arc<Sharing>>,
    ) -> Self {
        Self { index, decisions, metrics, sharing, setting: Arc::default() }
    }

    /// How what this node shares of a model's traffic stands; `None` where it shares nothing.
    pub fn shared(&self, model: &str) -> Option<SharedState> {
        self.sharing.as_ref().map(|sharing| sharing.standing(model))
    }

    /// Moves traffic for as long as the process lives.
    pub async fn run(self) {
        let mut saved = Instant::now();
        let mut refused = false;
        loop {
            tokio::time::sleep(BEAT).await;
            let moved = self.beat();
            if !moved && saved.elapsed() < SAVE {
                continue;
            }
            saved = Instant::now();
            let steering = self.clone();
            let saving = tokio::task::spawn_blocking(move || steering.save());
            let failed = saving.await.unwrap_or_else(|error| Err(error.to_string())).err();
            if let Some(reason) = failed.as_ref().filter(|_| !refused) {
                tracing::warn!(%reason, "what traffic must remember is not kept: a restart would begin anew");
            }
            refused = failed.is_some();
        }
    }

    /// Moves all models' traffic, and tells of what has taken place; returns whether anything has.
    fn beat(&self) -> bool {
        let mut events = self.index.take_events();
        for (name, model) in self.index.all().iter() {
            let moves = model.traffic.tick(SystemTime::now());
            events.extend(moves.into_iter().map(|event| (name.clone(), event)));
            for retired in model.traffic.take_retired() {
                self.metrics.traffic().retire(name, count(&retired));
            }
        }
        for (model, event) in &events {
            self.took_place(model, event);
        }
        if let Some(sharing) = self.sharing.as_ref().filter(|_| !events.is_empty()) {
            sharing.has_moved();
        }
        !events.is_empty()
    }

    /// Takes in what has been counted, and keeps what all models' traffic must remember. Blocks on the disk.
    ///
    /// # Errors
    /// Why the first one that could not be kept was not.
    pub fn save(&self) -> Result<(), String> {
        self.beat();
        let mut failed = Ok(());
        for (name, model) in self.index.all().iter() {
            let kept = self.decisions.remember(name, &model.traffic.remembered());
            failed = failed.and(kept);
        }
        failed
    }

    /// Carries out an operator's command, on all nodes that share this model's traffic, and keeps what comes of it.
    ///
    /// # Errors
    /// Why it cannot be carried out.
    pub async fn command(
        &self,
        model: &str,
        traffic: &Arc<Traffic>,
        command: Command,
    ) -> Result<Event, String> {
        let event = match &self.sharing {
            Some(sharing) => sharing.command(model, traffic, command).await?,
            None => traffic.command(command, SystemTime::now())?,
        };
        self.took_place(model, &event);
        let (decisions, name, remembered) =
            (Arc::clone(&self.decisions), model.to_owned(), traffic.remembered());
        let keeping = tokio::task::spawn_blocking(move || decisions.remember(&name, &remembered));
        if let Err(reason) = keeping.await.unwrap_or_else(|error| Err(error.to_string())) {
            tracing::warn!(model, %reason, "the command holds until the host ends, and no longer");
        }
        Ok(event)
    }

    /// The text of the traffic that was set over a model's `model.yaml`.
    pub fn set(&self, model: &str) -> Option<String> {
        self.decisions.traffic(model)
    }

    /// Sets a model's traffic over that of its `model.yaml`, or gives it back to that. When it returns, the
    /// versions that are named serve, and traffic goes to them; or nothing has changed.
    ///
    /// # Errors
    /// [`SetError`].
    pub async fn set_traffic(
        &self,
        keeper: &KeeperHandle,
        model: &str,
        text: Option<String>,
    ) -> Result<(), SetError> {
        let setting = self.setting(model);
        let _one_at_a_time = setting.lock().await;
        let Some(text) = text else {
            self.keep(model, None).await?;
            self.share(model, None).await;
            let _loaded = keeper.refresh(model).await;
            return Ok(());
        };
        let outcome = self.try_traffic(keeper, model, &text).await;
        let kept = match outcome {
            // On the disk only what is in effect: a crash before leaves what was there.
            Ok(()) => self.keep(model, Some(text.clone())).await,
            refused => refused,
        };
        if kept.is_ok() {
            self.share(model, Some(text)).await;
        }
        self.decisions.end_try(model);
        if kept.is_err() {
            let _loaded = keeper.refresh(model).await;
        }
        kept
    }

    /// Loads what a policy names, and moves traffic to it.
    async fn try_traffic(&self, keeper: &KeeperHandle, model: &str, text: &str) -> Result<(), SetError> {
        self.decisions.begin_try(model, text);
        // Versions that failed are told below.
        let _loaded = keeper.refresh(model).await;
        let labels = self.index.traffic(model).map(|traffic| traffic.labels()).unwrap_or_default();
        let read = policy(model, text, &labels).map_err(SetError::NotReady);
        let settings = read.map(|traffic| ModelConfig { traffic, labels, ..ModelConfig::default() })?;
        if self.index.is_configured(model, &settings) {
            return Ok(());
        }
        let missing = self.index.missing_for(model, &settings);
        Err(SetError::NotReady(missing.unwrap_or_else(|| "its versions were changing; try again".to_owned())))
    }

    fn setting(&self, model: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.setting.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody waits for any more.
        all.retain(|_, one| Arc::strong_count(one) > 1);
        Arc::clone(all.entry(model.to_owned()).or_default())
    }

    async fn share(&self, model: &str, text: Option<String>) {
        if let Some(sharing) = &self.sharing {
            sharing.policy_set(model, text).await;
        }
    }

    async fn keep(&self, model: &str, text: Option<String>) -> Result<(), SetError> {
        let (decisions, model) = (Arc::clone(&self.decisions), model.to_owned());
        let keeping = tokio::task::spawn_blocking(move || match text {
            Some(text) => decisions.set_traffic(&model, &text),
            None => decisions.clear_traffic(&model).map(|_| ()),
        });
        let kept = keeping.await.unwrap_or_else(|error| Err(error.to_string()));
        kept.map_err(SetError::NotKept)
    }

    fn took_place(&self, model: &str, event: &Event) {
        tell(model, event);
        if matches!(event.kind, EventKind::Promoted | EventKind::RolledBack | EventKind::Superseded) {
            self.metrics.traffic().rollout_ended(model, &event.version, event.kind.as_str());
        }
    }

    /// Brings the metrics up to what all arms have counted.
    pub fn observe(index: &ModelIndex, metrics: &Metrics) {
        for (name, model) in index.all().iter() {
            // First those that have gone: others may count under their names since.
            for retired in model.traffic.take_retired() {
                metrics.traffic().retire(name, count(&retired));
            }
            let status = model.traffic.status();
            metrics.traffic().observe(name, status.arms.iter().map(count).collect());
            let mirror = status.arms.iter().find(|arm| arm.name == "mirror");
            if let (Some(shadow), Some(mirror)) = (status.shadow, mirror) {
                metrics.traffic().skipped(name, &mirror.version, shadow.skipped);
            }
        }
    }
}

fn count(arm: &ArmStatus) -> ArmCount {
    let (rewards, reward) = arm.rewards.map_or((0, 0.0), |all| (all.count, all.mean * all.count as f64));
    ArmCount {
        arm: arm.name.clone(),
        version: arm.version.clone(),
        share: arm.share,
        ok: arm.answered,
        failed: arm.failed,
        refused: arm.refused,
        rewards,
        reward,
    }
}

/// One line in the log for each event.
fn tell(model: &str, event: &Event) {
    let (version, reason) = (event.version.as_str(), event.reason.as_str());
    match event.kind {
        EventKind::RolledBack => tracing::error!(model, version, reason, "the canary was rolled back"),
        EventKind::Promoted => tracing::info!(model, version, reason, "the canary was promoted"),
        EventKind::Started => tracing::info!(model, version, reason, "a rollout began"),
        EventKind::SteppedUp => tracing::info!(model, version, reason, "the canary gets more requests"),
        EventKind::Superseded => tracing::warn!(model, version, reason, "the canary was superseded"),
        EventKind::Switched => tracing::info!(model, version, reason, "traffic was switched"),
        EventKind::Leading => tracing::info!(model, version, reason, "another arm leads"),
    }
}
