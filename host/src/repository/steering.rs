//! Traffic that moves by itself: rollouts step by step, bandits by what they learn.
//!
//! Owns the clock of all models' traffic, what is told of their moves, and that what they must remember is
//! kept. Requests do not wait for it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::decisions::Decisions;
use super::index::ModelIndex;
use crate::telemetry::{ArmCount, Metrics};
use crate::traffic::{Command, Event, EventKind, Status, Traffic};

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
}

impl Steering {
    /// Steers the models of an index.
    pub fn new(index: Arc<ModelIndex>, decisions: Arc<Decisions>, metrics: Arc<Metrics>) -> Self {
        Self { index, decisions, metrics }
    }

    /// Moves traffic for as long as the process lives.
    pub async fn run(self) {
        let mut saved = Instant::now();
        let mut refused = false;
        loop {
            tokio::time::sleep(BEAT).await;
            let mut moved = false;
            for (name, model) in self.index.all().iter() {
                let events = model.traffic.tick(SystemTime::now());
                moved |= !events.is_empty();
                self.took_place(name, &events);
            }
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

    /// Keeps what all models' traffic must remember. Blocks on the disk.
    ///
    /// # Errors
    /// Why the first one that could not be kept was not.
    pub fn save(&self) -> Result<(), String> {
        let mut failed = Ok(());
        for (name, model) in self.index.all().iter() {
            let kept = self.decisions.remember(name, &model.traffic.remembered());
            failed = failed.and(kept);
        }
        failed
    }

    /// Carries out an operator's command, and keeps what comes of it. Blocks on the disk.
    ///
    /// # Errors
    /// Why it cannot be carried out.
    pub fn command(&self, model: &str, traffic: &Traffic, command: Command) -> Result<Event, String> {
        let event = traffic.command(command, SystemTime::now())?;
        self.took_place(model, std::slice::from_ref(&event));
        if let Err(reason) = self.decisions.remember(model, &traffic.remembered()) {
            tracing::warn!(model, %reason, "the command holds until the host ends, and no longer");
        }
        Ok(event)
    }

    fn took_place(&self, model: &str, events: &[Event]) {
        tell(model, events);
        for event in events {
            if matches!(event.kind, EventKind::Promoted | EventKind::RolledBack | EventKind::Superseded) {
                self.metrics.traffic().rollout_ended(model, &event.version, event.kind.as_str());
            }
        }
    }

    /// Brings the metrics up to what all arms have counted.
    pub fn observe(index: &ModelIndex, metrics: &Metrics) {
        for (name, model) in index.all().iter() {
            metrics.traffic().observe(name, counts(&model.traffic.status()));
        }
    }
}

fn counts(status: &Status) -> Vec<ArmCount> {
    let counts = status.arms.iter().map(|arm| {
        let (rewards, reward) = arm.rewards.map_or((0, 0.0), |all| (all.count, all.mean * all.count as f64));
        ArmCount {
            arm: arm.name.clone(),
            version: arm.version.clone(),
            share: arm.share,
            ok: arm.answered,
            failed: arm.failed,
            rewards,
            reward,
        }
    });
    counts.collect()
}

/// One line in the log for each event.
pub(super) fn tell(model: &str, events: &[Event]) {
    for event in events {
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
}
