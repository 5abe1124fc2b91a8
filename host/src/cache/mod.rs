//! Answers that are remembered.
//!
//! Owns when a remembered answer may be given instead of a computed one, and what is remembered: `key` names an answer
//! by all that it depends on, `memory` holds answers, `flight` lets those who ask for the same at the same time wait
//! for one computation, `question` is the way from the one to the other, `visit` is one request's. `remote` is the
//! level that nodes share, in Redis, and `shared` the way through it; `epochs` makes all that was remembered of a model count for nothing at once. It
//! never knows a protocol, a folder or a model's run, and no answer waits for it longer than its own computation would take.
//!
//! Invariants:
//! - An answer is given only to a request whose key is that of the request it was computed for.
//! - A key has the digest of all that the generation consists of, so a swap needs no purge: the old answers cannot be
//!   asked for any more.
//! - What failed for want of time or room is nobody else's answer, and is never remembered.

mod entry;
mod epochs;
mod flight;
mod key;
mod lease;
mod memory;
mod purge;
mod question;
mod remote;
mod shared;
mod story;
mod visit;
mod wish;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use arc_swap::ArcSwap;

pub use entry::{Entry, Value};
pub use epochs::Epochs;
pub use key::{Key, Owner, Scope, Seed, SeedParts, Subject};
pub use memory::Shelf;
pub use purge::Purged;
pub use question::{Answered, Computed, Question};
pub use remote::{Found, Lease, Purges, Remote, Usage};
pub use story::{Story, Why};
pub use visit::Visit;
pub use wish::Wish;

use crate::telemetry::{CacheLevel, CacheMetrics, CacheOutcome};
use flight::Flights;
use memory::Memory;
use question::Landed;

/// The answers of all models. Cloning it shares them.
#[derive(Clone, Debug)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    memory: Memory,
    flights: Flights<Arc<Landed>>,
    shelves: ArcSwap<HashMap<String, Arc<Shelf>>>,
    epochs: Epochs,
    /// The level that nodes share.
    remote: Option<Remote>,
    /// Bytes of answers that are on their way to Redis.
    on_the_way: AtomicUsize,
    metrics: CacheMetrics,
}

/// Bytes of answers that are on their way to Redis at a time; a further answer stays in memory alone. A Redis that
/// hangs must not have the host keep more of them than that.
const MOST_ON_THE_WAY: usize = 64 << 20;

/// An answer of so many bytes that is on its way to Redis.
struct OnTheWay {
    cache: Cache,
    bytes: usize,
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        self.cache.0.on_the_way.fetch_sub(self.bytes, SeqCst);
    }
}

/// How it stands with the remembered answers of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelAnswers {
    /// The model.
    pub model: String,
    /// Answers in memory.
    pub entries: u64,
    /// Bytes that they take, about.
    pub bytes: u64,
    /// What came of asking memory.
    pub memory: LevelCounts,
    /// What came of asking Redis.
    pub redis: LevelCounts,
}

/// What came of asking one level, since the host runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelCounts {
    /// Questions that it answered, with answers past their time included.
    pub hits: u64,
    /// Questions that it did not answer.
    pub misses: u64,
    /// Questions that waited for another one's computation.
    pub coalesced: u64,
    /// Questions that failed, or found something damaged.
    pub errors: u64,
}

impl Cache {
    /// Room for `memory` bytes of answers in memory, and the level that nodes share, if there is one.
    pub fn new(memory: u64, remote: Option<Remote>, metrics: CacheMetrics) -> Self {
        let (memory, flights, shelves) = (Memory::new(memory), Flights::default(), ArcSwap::default());
        let (epochs, on_the_way) = (Epochs::default(), AtomicUsize::new(0));
        Self(Arc::new(Inner { memory, flights, shelves, epochs, remote, on_the_way, metrics }))
    }

    /// Follows the purges of other nodes, for as long as it is polled. Without a level that nodes share it ends at
    /// once.
    pub async fn follow(self) {
        let Some(remote) = &self.0.remote else {
            return;
        };
        let mut purges = remote.purges(self.0.epochs.clone());
        loop {
            purges.next().await;
            self.sweep();
        }
    }

    /// The level that nodes share.
    pub fn remote(&self) -> Option<&Remote> {
        self.0.remote.as_ref()
    }

    /// A place for so many bytes among the answers that are on their way to Redis, if there is room. One that is larger
    /// than all of it goes alone.
    fn on_the_way(&self, bytes: usize) -> Option<OnTheWay> {
        let before = self.0.on_the_way.fetch_add(bytes, SeqCst);
        let place = OnTheWay { cache: self.clone(), bytes };
        (before == 0 || before.saturating_add(bytes) <= MOST_ON_THE_WAY).then_some(place)
    }

    /// Whether the level that nodes share may be asked: once the purges that were made before this node came count here.
    async fn is_in_step(&self) -> bool {
        let Some(remote) = &self.0.remote else { return false };
        if remote.is_in_step() {
            return true;
        }
        match remote.get_in_step(&self.0.epochs).await {
            Ok(is_new) => {
                if is_new {
                    self.sweep();
                }
                true
            }
            Err(_) => false,
        }
    }

    /// What is known of a model. Only models that are served are asked for.
    pub fn shelf(&self, model: &str) -> Arc<Shelf> {
        if let Some(shelf) = self.0.shelves.load().get(model) {
            return Arc::clone(shelf);
        }
        let shelf = Arc::new(Shelf::new(model, self.0.metrics.model(model)));
        self.0.shelves.rcu(|shelves| {
            let mut shelves = HashMap::clone(shelves);
            shelves.entry(model.to_owned()).or_insert_with(|| Arc::clone(&shelf));
            shelves
        });
        // Another one may have been quicker.
        self.0.shelves.load().get(model).map_or(shelf, Arc::clone)
    }

    /// Forgets all answers of a model, or of all models, those that are being computed included. Says how many lay in
    /// memory, and what other nodes are to be told.
    pub fn purge(&self, model: Option<&str>) -> (usize, (String, u64)) {
        // From here on nobody can ask for the old ones, nor add to them.
        let told = self.0.epochs.purge(model);
        (self.sweep(), told)
    }

    /// Drops what is from before a purge, and says how much that was.
    pub fn sweep(&self) -> usize {
        self.0.memory.sweep(|shelf| self.0.epochs.of(shelf.model()))
    }

    /// How it stands with each model that has remembered answers, by name.
    pub fn stats(&self) -> Vec<ModelAnswers> {
        self.0.memory.settle();
        let shelves = self.0.shelves.load();
        let mut all: Vec<_> = shelves.iter().map(|(model, shelf)| answers(model, shelf)).collect();
        all.sort_by(|left, right| left.model.cmp(&right.model));
        all
    }

    /// Bytes that all answers in memory may take.
    pub fn limit(&self) -> u64 {
        self.0.memory.limit()
    }

    /// Brings metrics up to date, just before they are read.
    pub fn observe(&self) {
        self.0.memory.settle();
        self.0.metrics.observe(self.limit(), self.0.flights.count());
    }
}

fn answers(model: &str, shelf: &Shelf) -> ModelAnswers {
    let (entries, bytes) = shelf.series.held();
    let counts = |level| {
        let count = |outcome| shelf.series.count(level, outcome);
        LevelCounts {
            hits: count(CacheOutcome::Hit) + count(CacheOutcome::Stale),
            misses: count(CacheOutcome::Miss),
            coalesced: count(CacheOutcome::Coalesced),
            errors: count(CacheOutcome::Error),
        }
    };
    let (memory, redis) = (counts(CacheLevel::Memory), counts(CacheLevel::Redis));
    ModelAnswers { model: model.to_owned(), entries, bytes, memory, redis }
}
