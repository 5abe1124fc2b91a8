//! The API keys of this node, kept equal to those in Redis.
//!
//! Owns when Redis is looked at: on word of a change, and twice a second without any, so that word that was missed costs
//! half a second. What is known stays known: keys that Redis has lost are put back, and a revocation that it does not know
//! is told again.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use super::super::authority::{Authority, key_change};
use super::super::key_store::Used;
use super::super::register::Register;
use super::keys::{Reading, Revision, SharedKeys};
use crate::store::StoreError;
use crate::telemetry::{Audit, SharedAuthMetrics};

/// From one look at the revision to the next.
const LOOK: Duration = Duration::from_millis(500);
/// The same, until Redis has answered once.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// And the least, however much is heard.
const LEAST: Duration = Duration::from_millis(20);
/// All keys are read so often, whatever the revision is: somebody may have changed them by hand.
const READ: Duration = Duration::from_secs(30);
/// How often the use of keys is noted.
const NOTE: Duration = Duration::from_secs(30);
/// Entries whose faults have been told and are remembered.
const TOLD: usize = 1000;

/// Follows the API keys in Redis, for as long as the authority is there.
pub async fn follow_api_keys(
    authority: Weak<Authority>,
    keys: SharedKeys,
    audit: Audit,
    metrics: SharedAuthMetrics,
) {
    let mut changes = keys.changes();
    let mut follower = Follower::new(keys, audit, metrics);
    loop {
        {
            let Some(authority) = authority.upgrade() else {
                return;
            };
            follower.look(&authority).await;
        }
        tokio::time::sleep(LEAST).await;
        let pause = if follower.seen.is_some() { LOOK } else { FIRST_LOOK };
        // Whatever is heard, it means to look.
        let _ = tokio::time::timeout(pause, changes.next()).await;
    }
}

/// Notes in Redis when keys were used that are kept there: at the end of the host.
///
/// # Errors
/// They are not noted.
pub async fn note_shared_use(authority: &Authority, keys: &SharedKeys) -> Result<(), StoreError> {
    keys.note_used(&authority.api_keys().last_used(true)).await
}

struct Follower {
    keys: SharedKeys,
    audit: Audit,
    metrics: SharedAuthMetrics,
    /// All that this node has ever seen, and that is not over.
    known: Register,
    /// The revision of what was read last, and when that was.
    seen: Option<(Revision, Instant)>,
    is_away: bool,
    told: BTreeSet<(String, &'static str)>,
    noted: Used,
    noted_at: Instant,
}

impl Follower {
    fn new(keys: SharedKeys, audit: Audit, metrics: SharedAuthMetrics) -> Self {
        Self {
            keys,
            audit,
            metrics,
            known: Register::default(),
            seen: None,
            is_away: false,
            told: BTreeSet::new(),
            noted: Used::new(),
            noted_at: Instant::now(),
        }
    }

    async fn look(&mut self, authority: &Arc<Authority>) {
        match self.bring_together(authority).await {
            Ok(()) => {
                self.metrics.keys_confirmed(SystemTime::now(), self.known.len());
                if self.is_away {
                    self.is_away = false;
                    tracing::info!("API keys in redis are followed again");
                }
            }
            Err(error) => {
                // At the start it is being connected to; the store tells if that fails.
                let is_starting = self.seen.is_none() && error == StoreError::Open;
                if !self.is_away && !is_starting {
                    self.is_away = true;
                    tracing::warn!(%error, "API keys in redis cannot be read; those of before stay");
                }
            }
        }
        if self.noted_at.elapsed() >= NOTE {
            self.noted_at = Instant::now();
            self.note_used(authority).await;
        }
    }

    async fn bring_together(&mut self, authority: &Arc<Authority>) -> Result<(), StoreError> {
        if let Some((seen, read_at)) = &self.seen
            && read_at.elapsed() < READ
            && *seen == self.keys.revision().await?
        {
            return Ok(());
        }
        let now = SystemTime::now();
        let reading = self.keys.read(now).await?;
        self.tell_malformed(&reading);
        for id in self.known.join(&reading.keys) {
            self.tell_once(id, "it is another key than the one that was there before");
        }
        for (id, _) in reading.later.iter().filter(|(_, is_revoked)| **is_revoked) {
            self.known.revoke(id, now);
        }
        self.known.forget_outlived(now);
        let difference = authority.api_keys().take_shared(self.known.clone());
        if let Some(change) = difference.told() {
            self.audit.keys_changed(key_change("api_keys", "redis", Ok(Some(change)))).await;
        }
        if self.seen.is_none() && reading.keys.len() == 0 {
            tracing::warn!("there are no API keys in redis; 'nuke keys create NAME --config FILE' makes one");
        }
        let revision = self.put_back(reading).await?;
        self.seen = Some((revision, Instant::now()));
        Ok(())
    }

    /// Tells Redis what it does not know. Returns the revision that is in force then, as far as this node knows.
    async fn put_back(&self, reading: Reading) -> Result<Revision, StoreError> {
        let mut news = self.known.news_for(&reading.keys);
        news.retain(|entry| !reading.later.contains_key(&entry.id));
        if news.is_empty() {
            return Ok(reading.revision);
        }
        let next = self.keys.write(&reading.revision, &news, &[]).await?;
        if next.is_some() {
            tracing::warn!(
                keys = news.len(),
                "redis had lost API keys, or ends of them, that are known here; they are put back"
            );
        }
        // Others came before: what they wrote is read next time.
        Ok(next.unwrap_or_else(|| b"changed meanwhile".to_vec()))
    }

    async fn note_used(&mut self, authority: &Authority) {
        let mut used = authority.api_keys().last_used(true);
        used.retain(|id, at| self.noted.get(id) != Some(at));
        if used.is_empty() {
            return;
        }
        match self.keys.note_used(&used).await {
            Ok(()) => self.noted.append(&mut used),
            Err(error) => tracing::debug!(%error, "when API keys were used cannot be noted in redis"),
        }
    }

    fn tell_malformed(&mut self, reading: &Reading) {
        for (id, reason) in &reading.malformed {
            self.tell_once(id.clone(), reason);
        }
    }

    fn tell_once(&mut self, id: String, reason: &'static str) {
        if self.told.len() < TOLD && self.told.insert((id.clone(), reason)) {
            tracing::error!(id, reason, "an API key in redis is not taken");
        }
    }
}
