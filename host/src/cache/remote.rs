//! The level of the answer cache that nodes share, in Redis.
//!
//! Owns the keys there, and the commands. Values are bytes that only their owner understands: what comes back may be
//! corrupt or somebody else's, so an entry says itself what it is. Everything here may fail at any time, and then
//! costs the request nothing but `cache.redis.timeout`.
//!
//! An entry is `<namespace>:a:{<key>}`, a lease `<namespace>:l:{<key>}` (one slot of a Cluster), epochs are the
//! fields of `<namespace>:epochs:models`.

mod marks;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use redis::Script;
use tokio::time::{Instant, sleep_until};

use self::marks::Marks;
use super::epochs::Epochs;
use crate::store::{Event, Store, StoreError, Subscription};

/// How often epochs are read anew, whether or not word came of a change.
const RECONCILE: Duration = Duration::from_secs(5);

/// A lease is given back by whoever has it, and by nobody else.
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('UNLINK', KEYS[1]) end return 0";

/// Numbers only grow: what is written is the greatest of all. Returns all that are there afterwards.
const RAISE: &str = "
for i = 1, #ARGV - 1, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if not known or #known < #ARGV[i + 1] or (#known == #ARGV[i + 1] and known < ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return redis.call('HGETALL', KEYS[1])";

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Remote {
    store: Store,
    release: Script,
    raise: Script,
}

/// Whose work an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// The asker's: nobody else computes it, as long as the lease lasts.
    Mine,
    /// Another node computes it now.
    Theirs,
}

/// What is kept in Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Keys in the database, of all kinds and namespaces.
    pub keys: u64,
    /// Bytes that the server uses, for everything.
    pub bytes: u64,
    /// Bytes that it may use; 0 for no limit.
    pub max_bytes: u64,
    /// Keys that it gave up for want of memory, since it runs.
    pub evicted: u64,
}

impl Remote {
    /// A level of this Redis.
    pub fn new(store: Store) -> Self {
        Self { store, release: Script::new(RELEASE), raise: Script::new(RAISE) }
    }

    /// The storage itself.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The entry of a key, of at most so many bytes; a larger one is not transferred, and counts as none.
    ///
    /// # Errors
    /// Redis did not answer, or not with bytes. The caller goes on as if there were none.
    pub async fn get(&self, key: &str, max: usize) -> Result<Option<Bytes>, StoreError> {
        self.store.get_bytes(&self.entry(key), max).await
    }

    /// Remembers an entry for so long, at least a millisecond.
    ///
    /// # Errors
    /// It was not remembered.
    pub async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), StoreError> {
        self.store.set_bytes(&self.entry(key), value, ttl).await
    }

    /// Forgets an entry, such as a corrupt one.
    ///
    /// # Errors
    /// It was perhaps not forgotten.
    pub async fn remove(&self, key: &str) -> Result<(), StoreError> {
        let mut command = redis::cmd("UNLINK");
        command.arg(self.entry(key));
        self.store.ask::<u64>(command).await.map(drop)
    }

    /// Asks for the right to compute a key's answer alone, for so long and no longer, whatever becomes of this node.
    /// `token` tells this asker from all others.
    ///
    /// # Errors
    /// It is not known; the caller computes.
    pub async fn lease(&self, key: &str, token: &str, time: Duration) -> Result<Lease, StoreError> {
        let mut command = redis::cmd("SET");
        command.arg(self.lease_key(key)).arg(token).arg("NX").arg("PX").arg(millis(time));
        let set: Option<String> = self.store.ask(command).await?;
        Ok(if set.is_some() { Lease::Mine } else { Lease::Theirs })
    }

    /// Gives a lease back before its time, if it is still this asker's.
    ///
    /// # Errors
    /// It was perhaps not given back, and ends with its time.
    pub async fn release(&self, key: &str, token: &str) -> Result<(), StoreError> {
        let lease = self.lease_key(key);
        self.store.run::<u64>(&self.release, &[&lease], &[token.as_bytes()]).await.map(drop)
    }

    /// Tells the other nodes of a purge, as [`Epochs::purge`] returned it. Where Redis cannot be reached they hear
    /// of it as soon as it can, as long as this node lives.
    ///
    /// # Errors
    /// They do not know yet.
    pub async fn tell_purge(&self, purge: &(String, u64)) -> Result<(), StoreError> {
        self.exchange([(purge.0.clone(), purge.1)]).await?;
        let mut command = redis::cmd("PUBLISH");
        command.arg(self.channel()).arg(format!("{} {}", purge.1, purge.0));
        self.store.ask::<u64>(command).await.map(drop)
    }

    /// Purges of other nodes, for as long as it is polled.
    pub fn purges(&self, epochs: Epochs) -> Purges {
        Purges {
            messages: self.store.subscribe(&self.channel()),
            keys: self.store.watch_keys(&self.epochs_key()),
            marks: Marks::new(&self.store),
            remote: self.clone(),
            epochs,
            read_at: Instant::now(),
        }
    }

    /// How full Redis is. Of a Cluster, one node.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn usage(&self) -> Result<Usage, StoreError> {
        let keys = self.store.ask(redis::cmd("DBSIZE")).await?;
        let mut command = redis::cmd("INFO");
        command.arg("everything");
        let info: redis::InfoDict = self.store.ask(command).await?;
        let number = |name: &str| info.get::<u64>(name).unwrap_or_default();
        Ok(Usage {
            keys,
            bytes: number("used_memory"),
            max_bytes: number("maxmemory"),
            evicted: number("evicted_keys"),
        })
    }

    /// Writes these epochs where they are greater, and returns all that are there.
    async fn exchange(
        &self,
        epochs: impl IntoIterator<Item = (String, u64)>,
    ) -> Result<BTreeMap<String, u64>, StoreError> {
        let texts: Vec<String> =
            epochs.into_iter().flat_map(|(name, number)| [name, number.to_string()]).collect();
        let arguments: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        let all: Vec<(Vec<u8>, Vec<u8>)> =
            self.store.run(&self.raise, &[&self.epochs_key()], &arguments).await?;
        Ok(all.into_iter().filter_map(|(name, number)| epoch(&name, &number)).collect())
    }

    fn entry(&self, key: &str) -> String {
        self.store.key("a", &format!("{{{key}}}"))
    }

    fn lease_key(&self, key: &str) -> String {
        self.store.key("l", &format!("{{{key}}}"))
    }

    fn epochs_key(&self) -> String {
        self.store.key("epochs", "models")
    }

    fn channel(&self) -> String {
        self.store.key("epochs", "told")
    }
}

/// Purges of other nodes.
#[derive(Debug)]
pub struct Purges {
    messages: Subscription,
    keys: Subscription,
    marks: Marks,
    remote: Remote,
    epochs: Epochs,
    read_at: Instant,
}

impl Purges {
    /// Waits until another node's purge counts here, and has this node's count there. A message tells of it at once,
    /// Redis' own invalidation of changes that no node made (a flush purges all), and a look every few seconds of
    /// what both missed, a flush that came from another node of a Cluster included.
    pub async fn next(&mut self) {
        loop {
            tokio::select! {
                event = self.messages.next() => {
                    if let Event::Message(message) = event && self.heard(&message) {
                        return;
                    }
                }
                event = self.keys.next() => {
                    self.read_at = Instant::now();
                    if matches!(event, Event::Message(key) if key.is_empty()) {
                        // Whoever flushes Redis wants to see none of the old answers any more.
                        drop(self.epochs.purge(None));
                        if !self.remote.store.is_cluster() {
                            self.marks.forget();
                        }
                        return;
                    }
                }
                () = sleep_until(self.read_at) => {}
            }
            if self.read_at <= Instant::now() {
                self.read_at = Instant::now() + RECONCILE;
                if self.marks.look(&self.remote.store).await {
                    drop(self.epochs.purge(None));
                    self.read_at = Instant::now();
                    return;
                }
                let known = self.epochs.all();
                if let Ok(theirs) = self.remote.exchange(known).await
                    && self.epochs.raise(theirs)
                {
                    return;
                }
            }
        }
    }

    fn heard(&self, message: &[u8]) -> bool {
        let space = message.iter().position(|byte| *byte == b' ').unwrap_or(message.len());
        let (number, name) = message.split_at(space);
        epoch(name.get(1..).unwrap_or_default(), number).is_some_and(|epoch| self.epochs.raise([epoch]))
    }
}

/// A model's name and number, if they are any.
fn epoch(name: &[u8], number: &[u8]) -> Option<(String, u64)> {
    let name = std::str::from_utf8(name).ok().filter(|name| (1..=128).contains(&name.len()))?;
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    Some((name.to_owned(), number))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests;
