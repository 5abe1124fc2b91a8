//! The moment of a swap: what serves is put in place, changed, or let go.
//!
//! Owns the one pointer that requests follow, and the hand-over of the old generation to its drain. When, is the
//! keeper's to say.

use std::sync::Arc;
use std::time::Duration;

use super::drain::drain;
use super::keeper::Keeper;
use super::load::More;
use super::reconcile::Work;
use super::scan::Key;
use super::status::Draining;
use crate::pipeline::Generation;

impl Keeper {
    /// One pointer in the index: requests that come from now on get the new one.
    pub(super) fn publish(&mut self, key: &Key, generation: Generation, took: Duration) {
        let generation = Arc::new(generation);
        self.rollbacks.served(key);
        let before = self.generations.insert(key.clone(), Arc::clone(&generation));
        self.show_published(key, &generation, before.is_some(), took);
        if let Some(before) = before {
            self.let_go(key, before);
        }
    }

    /// The generation stays; how it is served changes.
    pub(super) fn apply(&mut self, key: &Key, work: &Work, more: More) {
        let (Some(generation), Ok(settings)) = (self.generations.get(key), &work.candidate.source.settings)
        else {
            return;
        };
        if let Err(error) = generation.apply(settings.clone(), more.sessions, more.opener) {
            tracing::error!(model = key.0, version = key.1, %error, "a worker cannot be started");
        }
        let (workers, _) = generation.scheduler().workers();
        tracing::info!(
            model = key.0,
            version = key.1,
            workers,
            "new settings are in effect, without a reload"
        );
    }

    /// Lets go of a generation that new requests no longer reach.
    pub(super) fn let_go(&mut self, key: &Key, generation: Arc<Generation>) {
        // What it has counted since the metrics were last asked for.
        generation.observe();
        self.draining.entry(key.clone()).or_default().push(Draining::new(&generation));
        self.drains.spawn(drain(key.clone(), generation, self.options.drain));
    }
}
