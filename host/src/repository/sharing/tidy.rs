//! Models that are gone.
//!
//! Owns when what was decided about a model is forgotten: a month after the last day on which a node had it, in the
//! store, on the disk and in memory. A node that has the model never forgets, however long it was cut off, and brings
//! what it knows when it can; so a record that is taken out although somebody needs it is there again at once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::super::agreed::{Agreed, millis};
use super::{Sharing, lock};

/// From one search to the next.
pub(super) const TIDIED: Duration = Duration::from_secs(3600);

impl Sharing {
    /// Notes that this node has the model today, if it has. Returns false if nobody has had it for so long that its
    /// record is not to be put anywhere any more.
    pub(super) fn note_use(&self, model: &str, agreed: &mut Agreed) -> bool {
        let (today, is_here) = (days(SystemTime::now()), self.index.all().contains_key(model));
        let record = agreed.share.record();
        if record.is_empty() {
            return true;
        }
        // Of one that an earlier host has written, the month begins now.
        if is_here || record.used == 0 {
            agreed.share.record_mut().use_on(today);
        }
        !agreed.share.record().is_outlived(today)
    }

    /// Forgets models that no node has had for a month.
    pub(super) async fn tidy(&self) {
        let today = days(SystemTime::now());
        for (model, agreed) in self.all() {
            let agreed = agreed.lock().await;
            let record = agreed.share.record();
            if !record.is_outlived(today) || self.index.all().contains_key(&model) {
                continue;
            }
            let Some(expected) = agreed.share.to_remove() else { continue };
            if !expected.is_empty() && !self.shelf.remove(&model, expected).await.unwrap_or(false) {
                continue;
            }
            self.forget(&model, record.policy.value.clone()).await;
        }
    }

    async fn forget(&self, model: &str, policy: Option<String>) {
        let (decisions, name) = (Arc::clone(&self.decisions), model.to_owned());
        let forgetting =
            tokio::task::spawn_blocking(move || decisions.forget_shared(&name, policy.as_deref())).await;
        if let Err(reason) = forgetting.unwrap_or_else(|error| Err(error.to_string())) {
            tracing::warn!(model, %reason, "what was decided about a model that is gone cannot be forgotten");
            return;
        }
        tracing::info!(
            model,
            "no node has had this model for a month: what was decided about it is forgotten"
        );
        lock(&self.models).remove(model);
        lock(&self.standing).remove(model);
        self.metrics.forget(model);
    }
}

/// Days since 1970.
fn days(at: SystemTime) -> u64 {
    millis(at) / (24 * 3600 * 1000)
}
