//! The level of remembered answers that nodes share, as a question goes through it.
//!
//! Owns the way of an answer into Redis and out of it, and who of several nodes computes it. Whatever Redis does, a
//! question goes on: each command has its time, and whoever waits for another node's computation waits for a short
//! lease at most, then computes by itself.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::entry::{Entry, now_ms};
use super::key::Key;
use super::question::Question;
use super::remote::{Lease, Remote};
use crate::telemetry::{CacheLevel, CacheOutcome};

/// How long a node may compute an answer alone. Another one that waits for it waits for no longer.
const LEASE: Duration = Duration::from_secs(2);
/// How long whoever waits sleeps between two looks: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));
/// Bytes of an entry beyond those of its value, at most: head, lengths, checksum.
const FRAME: usize = 4 << 10;
/// Answers that are on their way to Redis at a time; a further one stays in memory alone.
const MOST_ON_THE_WAY: usize = 256;

/// What came of asking the other nodes.
pub(super) enum Elsewhere {
    /// An answer that the request takes.
    Answer(Entry),
    /// This node computes it.
    Mine(Option<Leased>),
}

/// The right to compute an answer alone, given back when this is dropped.
pub(super) struct Leased {
    remote: Remote,
    key: String,
    token: String,
}

impl Drop for Leased {
    fn drop(&mut self) {
        let (remote, key, token) = (self.remote.clone(), self.key.clone(), self.token.clone());
        // Without a runtime the process ends, and the lease with its time.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { drop(remote.release(&key, &token).await) });
        }
    }
}

impl Question {
    /// The entry in Redis, if there is one that the request takes.
    pub(super) async fn fetch(&self, remote: &Remote, key: &Key) -> Option<Entry> {
        let (began, name) = (Instant::now(), key.to_hex());
        let most = self.settings.max_entry.as_usize().saturating_add(FRAME);
        let got = remote.get(&name, most).await;
        let series = &self.shelf.series;
        series.took(CacheLevel::Redis, began.elapsed());
        let Ok(got) = got else {
            series.asked(CacheLevel::Redis, CacheOutcome::Error);
            return None;
        };
        let Some(bytes) = got else {
            series.asked(CacheLevel::Redis, CacheOutcome::Miss);
            return None;
        };
        let Some(entry) = Entry::decode(key, &bytes, most) else {
            series.asked(CacheLevel::Redis, CacheOutcome::Error);
            tracing::debug!(
                model = self.shelf.model(),
                "what Redis has for an answer is none; it is taken out"
            );
            drop(remote.remove(&name).await);
            return None;
        };
        let (ttl, stale) = self.times_of(&entry);
        let takes = self.wish.takes(entry.age(now_ms()), ttl, stale);
        series.asked(CacheLevel::Redis, if takes { CacheOutcome::Hit } else { CacheOutcome::Miss });
        takes.then_some(entry)
    }

    /// The answer of another node, one that it is computing now included; else the right to compute it here.
    pub(super) async fn elsewhere(&self, remote: &Remote, key: &Key) -> Elsewhere {
        let (began, name) = (Instant::now(), key.to_hex());
        let token = format!("{:016x}", rand::random::<u64>());
        let mut pause = PAUSE.0;
        loop {
            if let Some(entry) = self.fetch(remote, key).await {
                return Elsewhere::Answer(entry);
            }
            if !remote.store().is_up() {
                return Elsewhere::Mine(None);
            }
            match remote.lease(&name, &token, LEASE).await {
                Ok(Lease::Mine) => {
                    let leased = Leased { remote: remote.clone(), key: name, token };
                    return Elsewhere::Mine(Some(leased));
                }
                Ok(Lease::Theirs) if began.elapsed() < LEASE => {}
                Ok(Lease::Theirs) | Err(_) => return Elsewhere::Mine(None),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Puts an entry into Redis while the answer goes its way, and gives the lease back after that.
    pub(super) fn share(&self, remote: &Remote, key: &Key, entry: &Entry, leased: Option<Leased>) {
        let series = self.shelf.series.clone();
        let Some(place) = self.cache.on_the_way(MOST_ON_THE_WAY) else {
            series.stored(CacheLevel::Redis, "crowded");
            return;
        };
        let (remote, key, compression) = (remote.clone(), *key, self.settings.compress);
        let entry = entry.clone();
        tokio::spawn(async move {
            let life = entry.lifetime(now_ms());
            let bytes: Bytes = entry.encode(&key, compression);
            let put = remote.put(&key.to_hex(), bytes, life).await;
            series.stored(CacheLevel::Redis, if put.is_ok() { "stored" } else { "error" });
            drop((leased, place));
        });
    }
}
