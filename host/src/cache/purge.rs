//! A purge of all nodes.
//!
//! Owns the order: it counts here before the others are told, so that nobody can take it for done where it is not.

use super::Cache;
use crate::store::StoreError;

/// What came of a purge.
#[derive(Clone, Debug)]
pub struct Purged {
    /// Answers that lay in this host's memory.
    pub answers: usize,
    /// Whether the other nodes know; `None` if there is no Redis to tell them by.
    pub told: Option<Result<(), StoreError>>,
}

impl Cache {
    /// Forgets all answers of a model, or of all models, here and on all nodes: those in memory, those in Redis, and
    /// those that are being computed. Where Redis cannot be reached the others hear of it as soon as it can, as long as
    /// this host runs ([[`Cache::follow`]]).
    pub async fn purge_everywhere(&self, model: Option<&str>) -> Purged {
        let (answers, told) = self.purge(model);
        let told = match self.remote() {
            Some(remote) => Some(remote.tell_purge(&told).await),
            None => None,
        };
        Purged { answers, told }
    }
}
