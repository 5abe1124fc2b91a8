//! Loads and what else is to be done with versions: begun, run on blocking threads, and ended.
//!
//! Owns how a work runs and what becomes of what it made. What is to be done is the reconciler's to decide.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::drain::free;
use super::fingerprint::Fingerprint;
use super::keeper::Keeper;
use super::load::{Checked, More};
use super::reconcile::{Outcome, Task, Work};
use crate::haste::Haste;
use crate::pipeline::Generation;

#[derive(Debug)]
enum Made {
    Generation(Box<Generation>),
    /// To be loaded when somebody asks for it.
    Checked(Checked),
    /// For workers that are to be added to what serves.
    Sessions(More),
}

/// A work that has ended.
#[derive(Debug)]
pub(super) struct Done {
    work: Work,
    result: Result<Made, String>,
    /// The files were the same after the work as before it.
    still: bool,
    took: Duration,
}

impl Keeper {
    /// Begins these, as far as there is room for them.
    pub(super) fn start(&mut self, works: Vec<Work>) {
        for work in works {
            self.without_room.push_back(work);
        }
        self.start_where_there_is_room();
    }

    /// Runs a work on a blocking thread, when it is its turn.
    pub(super) fn begin(&mut self, work: Work) {
        self.work_count += 1;
        let (key, number) = (work.candidate.key(), self.work_count);
        self.stages.insert(key.clone(), (number, None));
        let serving = self.generations.get(&key).map(Arc::clone);
        let slots = if self.reconciler.has_failed(&work.candidate) {
            &self.slots.again
        } else if work.task == Task::Load && self.doors.contains_key(&key) {
            &self.slots.wakes
        } else {
            &self.slots.first
        };
        // Requests wait for a load on demand, and for all loads at the start.
        let is_urgent = self.is_starting || (work.task == Task::Load && self.doors.contains_key(&key));
        let haste = if is_urgent { Haste::Now } else { Haste::Background };
        let (slots, loader) = (Arc::clone(slots), Arc::clone(&self.loader));
        let progress = self.progress.0.clone();
        self.works.spawn(async move {
            let _slot = slots.acquire_owned().await;
            let (began, wanted, task) = (Instant::now(), Arc::clone(&work.candidate), work.task);
            let working = tokio::task::spawn_blocking(move || {
                let tell = |stage| {
                    // The keeper ends with the process only.
                    let _gone = progress.blocking_send((wanted.key(), number, stage));
                };
                let result = match (task, serving) {
                    (Task::Apply, Some(serving)) => {
                        loader.open_more(&wanted.source, &serving).map(Made::Sessions)
                    }
                    (Task::Check, _) => loader.check(&wanted.source, &tell).map(Made::Checked),
                    (Task::Load | Task::Apply, _) => {
                        let loaded = loader.load(&wanted.source, haste, &tell);
                        loaded.map(|generation| Made::Generation(Box::new(generation)))
                    }
                };
                let after = Fingerprint::read(&wanted.source, &loader.options.plugins);
                (result, after == wanted.fingerprint)
            });
            let (result, still) = working.await.unwrap_or_else(|error| {
                let (model, version) = work.candidate.key();
                tracing::error!(%model, %version, %error, "the loader itself failed");
                (Err("the loader itself failed; see the host's log".to_owned()), true)
            });
            Done { work, result, still, took: began.elapsed() }
        });
    }

    /// Takes in how a work ended.
    pub(super) fn finish(&mut self, done: Done) {
        let Done { work, result, still, took } = done;
        let key = work.candidate.key();
        // What it has told of itself before it ended.
        while let Ok(progress) = self.progress.1.try_recv() {
            self.note_stage(progress);
        }
        self.stages.remove(&key);
        self.coming.remove(&key);
        // A load leaves the bytes of its files behind, and more if it fails.
        self.trim.ask();
        let (outcome, made) = match result {
            _ if !still => (Outcome::Moved, result.ok()),
            Ok(made) => (Outcome::Loaded, Some(made)),
            Err(reason) => (Outcome::Failed(reason), None),
        };
        let word = if made.is_some() { "ok" } else { "failed" };
        if outcome != Outcome::Moved && work.task == Task::Load {
            self.loader.metrics.swapped(&key.0, word);
            if self.doors.contains_key(&key) {
                self.loader.metrics.memory().woke(&key.0, word);
            }
        }
        let (publish, works) = self.reconciler.finished(Instant::now(), &work, outcome);
        match made {
            Some(Made::Generation(generation)) if publish => self.publish(&key, *generation, took),
            Some(Made::Generation(generation)) => drop(tokio::spawn(free(*generation))),
            Some(Made::Sessions(more)) if publish => self.apply(&key, &work, more),
            Some(Made::Sessions(more)) => drop(tokio::task::spawn_blocking(move || drop(more))),
            Some(Made::Checked(checked)) if publish => self.put_door(&key, checked),
            Some(Made::Checked(_)) | None => {}
        }
        self.start(works);
        self.ended(&key);
    }

    /// Brings everything in line with how a work of this version ended.
    pub(super) fn ended(&mut self, key: &super::scan::Key) {
        self.settle_traffic();
        self.show_changes();
        self.settle_traffic();
        self.show_again(key);
    }
}
