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
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use redis::Script;
use tokio::time::{Instant, sleep_until};

use self::marks::Marks;
use super::epochs::Epochs;
use crate::store::{Event, FIRST_PART, Store, StoreError, Subscription};

/// How often epochs are read anew, whether or not word came of a change.
const RECONCILE: Duration = Duration::from_secs(5);
/// The same after a try in vain.
const RETRY: Duration = Duration::from_millis(250);
/// How far ahead of this node's clock another node's number may be. One that is further ahead is nonsense: if it
/// counted, no purge would find a greater one.
const AHEAD: Duration = Duration::from_secs(366 * 24 * 3600);

/// A lease is given back by whoever has it, and by nobody else.
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('UNLINK', KEYS[1]) end return 0";

/// The beginning of an entry with the length of all of it, if there is one of at most ARGV[1] bytes; else whose work the
/// answer is, with a length of 0, or of -1 where something lies that is no text at all.
const FIND_OR_LEASE: &str = "
local length = redis.pcall('STRLEN', KEYS[1])
if type(length) == 'table' then
  length = -1
elseif length > 0 and length <= tonumber(ARGV[1]) then
  return {length, redis.call('GETRANGE', KEYS[1], 0, ARGV[2])}
else
  length = 0
end
local set = redis.pcall('SET', KEYS[2], ARGV[3], 'NX', 'PX', ARGV[4])
if type(set) == 'table' and set.err then return set end
return {length, set and 'mine' or 'theirs'}";

/// Numbers only grow: what is written is the greatest of all. What is none, or greater than ARGV[1], counts for nothing.
/// Returns all that are there afterwards.
const RAISE: &str = "
local function less(one, other)
  return #one < #other or (#one == #other and one < other)
end
for i = 2, #ARGV - 1, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if not known or not string.match(known, '^[1-9]%d*$') or less(ARGV[1], known) or less(known, ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return redis.call('HGETALL', KEYS[1])";

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Remote {
    store: Store,
    find_or_lease: Script,
    release: Script,
    raise: Script,
    in_step: Arc<InStep>,
}

/// Whether this node knows of the purges that Redis knows of: before that, it may take for an answer what was purged.
#[derive(Debug, Default)]
struct InStep {
    is: AtomicBool,
    one_at_a_time: tokio::sync::Mutex<()>,
}

/// What there is of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The entry.
    Entry(Bytes),
    /// None, or a larger one than is wanted.
    None {
        /// Whose work it is.
        lease: Lease,
        /// Something else lies in its place.
        is_damaged: bool,
    },
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
        let (find_or_lease, release, raise) =
            (Script::new(FIND_OR_LEASE), Script::new(RELEASE), Script::new(RAISE));
        Self { store, find_or_lease, release, raise, in_step: Arc::default() }
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

    /// The entry of a key, of at most so many bytes; where there is none, asks for the right to compute it, as
    /// [`Remote::lease`] does, all in one go.
    ///
    /// # Errors
    /// Neither is known; the right may have been given. The caller computes.
    pub async fn find_or_lease(
        &self,
        key: &str,
        max: usize,
        token: &str,
        time: Duration,
    ) -> Result<Found, StoreError> {
        let entry = self.entry(key);
        let numbers = [max, FIRST_PART - 1].map(|number| number.to_string());
        let time = millis(time).to_string();
        let arguments = [numbers[0].as_bytes(), numbers[1].as_bytes(), token.as_bytes(), time.as_bytes()];
        let keys = [entry.as_str(), &self.lease_key(key)];
        let (length, text): (i64, Vec<u8>) = self.store.run(&self.find_or_lease, &keys, &arguments).await?;
        match usize::try_from(length).unwrap_or_default() {
            0 => {
                let lease = if text == b"mine" { Lease::Mine } else { Lease::Theirs };
                Ok(Found::None { lease, is_damaged: length < 0 })
            }
            length => self.store.whole(&entry, text, length).await.map(Found::Entry),
        }
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

    /// Whether the purges that were made before this node came count here.
    pub fn is_in_step(&self) -> bool {
        self.in_step.is.load(SeqCst)
    }

    /// Has them count, unless somebody else is about it. Returns whether any of them was new.
    ///
    /// # Errors
    /// They are not known yet.
    pub async fn get_in_step(&self, epochs: &Epochs) -> Result<bool, StoreError> {
        match self.in_step.one_at_a_time.try_lock() {
            Ok(_one) => self.reconcile(epochs).await,
            Err(_) => Err(StoreError::Open),
        }
    }

    /// Has the purges of other nodes count here, and those of this node there. Returns whether any of them was new.
    async fn reconcile(&self, epochs: &Epochs) -> Result<bool, StoreError> {
        let is_new = epochs.raise(self.exchange(epochs.all()).await?);
        self.in_step.is.store(true, SeqCst);
        Ok(is_new)
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
        let most = most();
        let texts: Vec<String> = std::iter::once(most.to_string())
            .chain(epochs.into_iter().flat_map(|(name, number)| [name, number.to_string()]))
            .collect();
        let arguments: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        let all: Vec<(Vec<u8>, Vec<u8>)> =
            self.store.run(&self.raise, &[&self.epochs_key()], &arguments).await?;
        Ok(all.into_iter().filter_map(|(name, number)| epoch(&name, &number, most)).collect())
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
                if self.remote.store.is_up() && self.marks.look(&self.remote.store).await {
                    drop(self.epochs.purge(None));
                    self.read_at = Instant::now();
                    return;
                }
                let looked = match self.remote.store.is_up() {
                    true => self.remote.reconcile(&self.epochs).await,
                    false => Err(StoreError::Open),
                };
                self.read_at = Instant::now() + if looked.is_ok() { RECONCILE } else { RETRY };
                if looked == Ok(true) {
                    return;
                }
            }
        }
    }

    fn heard(&self, message: &[u8]) -> bool {
        let space = message.iter().position(|byte| *byte == b' ').unwrap_or(message.len());
        let (number, name) = message.split_at(space);
        let told = epoch(name.get(1..).unwrap_or_default(), number, most());
        told.is_some_and(|epoch| self.epochs.raise([epoch]))
    }
}

/// A model's name and number, if they are any, and the number is not greater than `most`.
fn epoch(name: &[u8], number: &[u8], most: u64) -> Option<(String, u64)> {
    let name = std::str::from_utf8(name).ok().filter(|name| (1..=128).contains(&name.len()))?;
    let number = std::str::from_utf8(number).ok()?.parse().ok().filter(|number| *number <= most)?;
    Some((name.to_owned(), number))
}

/// The greatest number that an epoch may be now.
fn most() -> u64 {
    super::epochs::clock().saturating_add(u64::try_from(AHEAD.as_micros()).unwrap_or(u64::MAX))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests;
