//! The level of remembered answers that nodes share, as a question goes through it.
//!
//! Owns the way of an answer into Redis and out of it, and who of several nodes computes it. Whatever Redis does, a
//! question goes on: each command has its time, and whoever waits for another node's computation waits for a short
//! lease at most, and for half of its own time, then computes by itself.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::entry::{Entry, now_ms};
use super::key::Key;
use super::lease::Leased;
use super::question::Question;
use super::remote::{Found, Lease, Remote};
use super::visit::off_the_reactor;
use crate::telemetry::{CacheLevel, CacheOutcome};

/// How long a node may compute an answer alone. Another one that waits for it waits for no longer.
const LEASE: Duration = Duration::from_secs(2);
/// How long whoever waits sleeps between two looks: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));
/// Bytes of an entry beyond those of its value, at most: head, lengths, checksum.
const FRAME: usize = 4 << 10;

/// What came of asking the other nodes.
pub(super) enum Elsewhere {
    /// An answer that the request takes.
    Answer(Entry),
    /// This node computes it, with the right to do so alone if it could be had.
    Mine(Option<Leased>),
}

impl Question {
    /// The entry in Redis, if there is one that the request takes.
    pub(super) async fn fetch(&self, remote: &Remote, key: &Key) -> Option<Entry> {
        if !self.may_ask().await {
            return None;
        }
        let began = Instant::now();
        let got = remote.get(&key.to_hex(), self.most()).await;
        self.shelf.series.took(CacheLevel::Redis, began.elapsed());
        let Ok(got) = got else {
            self.counts(CacheOutcome::Error);
            return None;
        };
        let Some(bytes) = got else {
            self.counts(CacheOutcome::Miss);
            return None;
        };
        let Some(entry) = self.read(remote, key, &bytes).await else {
            self.counts(CacheOutcome::Error);
            return None;
        };
        let takes = self.accepts(&entry);
        self.counts(if takes { self.found(&entry) } else { CacheOutcome::Miss });
        takes.then_some(entry)
    }

    /// The answer of another node, one that it is computing now included; else the right to compute it here, for who
    /// has time until `deadline`. It is one question, however often it looks.
    pub(super) async fn elsewhere(&self, remote: &Remote, key: &Key, deadline: Instant) -> Elsewhere {
        if !self.may_ask().await {
            return Elsewhere::Mine(None);
        }
        let began = Instant::now();
        let patience = LEASE.min(deadline.saturating_duration_since(began) / 2);
        let mut leased = Leased::new(remote, key.to_hex(), LEASE);
        let mut pause = PAUSE.0;
        loop {
            let has_waited = pause > PAUSE.0;
            let found = leased.find_or_take(self.most()).await;
            if !has_waited {
                self.shelf.series.took(CacheLevel::Redis, began.elapsed());
            }
            let (lease, missed) = match found {
                Err(error) => (Err(error), CacheOutcome::Error),
                Ok(Found::None { lease, is_damaged: false }) => (Ok(lease), CacheOutcome::Miss),
                Ok(Found::None { lease, is_damaged: true }) => (Ok(lease), CacheOutcome::Error),
                Ok(Found::Entry(bytes)) => match self.read(remote, key, &bytes).await {
                    Some(entry) if self.accepts(&entry) => {
                        self.counts(if has_waited { CacheOutcome::Coalesced } else { self.found(&entry) });
                        return Elsewhere::Answer(entry);
                    }
                    Some(_) => (leased.take().await, CacheOutcome::Miss),
                    None => (leased.take().await, CacheOutcome::Error),
                },
            };
            if !matches!(lease, Ok(Lease::Theirs)) || began.elapsed() >= patience {
                self.counts(missed);
                return Elsewhere::Mine(Some(leased));
            }
            tokio::time::sleep(pause.min(patience.saturating_sub(began.elapsed()))).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Puts an entry into Redis while the answer goes its way, and gives the lease back after that.
    pub(super) fn share(&self, remote: &Remote, key: &Key, entry: &Entry, leased: Option<Leased>) {
        let series = self.shelf.series.clone();
        let size = entry.size();
        let Some(place) = self.cache.on_the_way(size) else {
            series.stored(CacheLevel::Redis, "crowded");
            return;
        };
        let (remote, key, compression) = (remote.clone(), *key, self.settings.compress);
        let entry = entry.clone();
        tokio::spawn(async move {
            let life = entry.lifetime(now_ms());
            let bytes: Bytes = off_the_reactor(size, || entry.encode(&key, compression));
            let put = remote.put(&key.to_hex(), bytes, life).await;
            series.stored(CacheLevel::Redis, if put.is_ok() { "stored" } else { "error" });
            drop((leased, place));
        });
    }

    /// Whether the other nodes may be asked: not before the purges of before this node came are known, nor under a key
    /// that one of them has put out of use.
    async fn may_ask(&self) -> bool {
        if !self.cache.is_in_step().await {
            self.counts(CacheOutcome::Error);
            return false;
        }
        let may = self.is_current();
        if !may {
            self.counts(CacheOutcome::Miss);
        }
        may
    }

    /// What `bytes` are of an answer; what is none is taken out.
    async fn read(&self, remote: &Remote, key: &Key, bytes: &Bytes) -> Option<Entry> {
        let entry = off_the_reactor(bytes.len(), || Entry::decode(key, bytes, self.most()));
        if entry.is_none() {
            tracing::debug!(
                model = self.shelf.model(),
                "what Redis has for an answer is none; it is taken out"
            );
            drop(remote.remove(&key.to_hex()).await);
        }
        entry
    }

    fn accepts(&self, entry: &Entry) -> bool {
        let (ttl, stale) = self.times_of(entry);
        self.wish.takes(entry.age(now_ms()), ttl, stale)
    }

    /// What it is to have found an entry that is given.
    fn found(&self, entry: &Entry) -> CacheOutcome {
        if entry.age(now_ms()) < self.times_of(entry).0 { CacheOutcome::Hit } else { CacheOutcome::Stale }
    }

    fn most(&self) -> usize {
        self.settings.max_entry.as_usize().saturating_add(FRAME)
    }

    fn counts(&self, outcome: CacheOutcome) {
        self.shelf.series.asked(CacheLevel::Redis, outcome);
    }
}
