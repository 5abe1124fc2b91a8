//! API keys in Redis: where they lie, and how they are read and changed there.
//!
//! Owns their form: a hash `<namespace>:auth:keys` from ids to entries, with a field `#revision` that is another word after
//! each change, and a hash `<namespace>:auth:used` from ids to the time of their last use. Keys are only ever added and
//! ended ([`Register`]); entries go when no clock can take them for valid any more.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use redis::Script;

use super::super::key_store::{KeyStoreError, Used};
use super::super::register::Register;
use super::{random_word, record};
use crate::config::{ApiKeyEntry, ApiKeyFile};
use crate::store::{Store, StoreError, Subscription};

/// The field beside the keys.
const REVISION: &str = "#revision";
/// Entries that are asked for, or written, at once.
const AT_ONCE: usize = 250;
/// The most keys that are read.
const MOST: usize = 100_000;
/// How often a change is tried again that others came before.
const TRIES: usize = 16;
/// What is wrong is told of so many entries.
const TOLD: usize = 20;

/// ARGV: the revision that is expected, the new one, the channel, how many entries, their ids and contents, and the ids of
/// those that go.
const CHANGE: &str = "
if (redis.call('HGET', KEYS[1], '#revision') or '') ~= ARGV[1] then return 0 end
local last = 4 + 2 * tonumber(ARGV[4])
for i = 5, last, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
for i = last + 1, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
redis.call('HSET', KEYS[1], '#revision', ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[2])
return 1";

/// ARGV: ids and times; the later time counts.
const NOTE_USED: &str = "
for i = 1, #ARGV - 1, 2 do
  local known = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or '')
  if not (known and known >= tonumber(ARGV[i + 1])) then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
return #ARGV";

/// What the keys are called at one time; empty if there are none.
pub(super) type Revision = Vec<u8>;

/// Fields of a hash with their values.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// As it was before the first of them was read.
    pub(super) revision: Revision,
    /// The keys, those that have long been over left out.
    pub(super) keys: Register,
    /// The ids of those.
    pub(super) outlived: Vec<String>,
    /// What cannot be used, and why: 20 of them at most.
    pub(super) malformed: Vec<(String, &'static str)>,
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SharedKeys {
    store: Store,
    change: Script,
    note_used: Script,
}

impl SharedKeys {
    /// The keys of this Redis.
    pub fn new(store: Store) -> Self {
        Self { store, change: Script::new(CHANGE), note_used: Script::new(NOTE_USED) }
    }

    /// All keys, in the order of their making.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn all(&self) -> Result<ApiKeyFile, KeyStoreError> {
        let reading = self.read(SystemTime::now()).await.map_err(unreadable)?;
        Ok(in_order(&reading.keys))
    }

    /// Changes the keys. `change` gets what is there, and says whether it is to be kept; it may be asked several times, if
    /// others change them, too.
    ///
    /// # Errors
    /// They are as they were then, or it is not known whether they are: Redis took the change and did not say so.
    pub async fn change<T>(
        &self,
        mut change: impl FnMut(&mut ApiKeyFile) -> Result<T, String>,
    ) -> Result<T, KeyStoreError> {
        for _ in 0..TRIES {
            let before = self.read(SystemTime::now()).await.map_err(unreadable)?;
            let mut keys = in_order(&before.keys);
            let done = change(&mut keys).map_err(KeyStoreError::Unreadable)?;
            let after: Register = keys.into();
            if after.len() > MOST {
                return Err(KeyStoreError::Unreadable(format!("expected at most {MOST} keys in redis")));
            }
            let news = after.news_for(&before.keys);
            if self.write(&before.revision, &news, &before.outlived).await.map_err(unreadable)?.is_some() {
                self.forget_use(&before.outlived).await;
                return Ok(done);
            }
        }
        Err(KeyStoreError::Unreadable("others change the keys in redis all the time; try again".to_owned()))
    }

    /// When keys were last used.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn last_used(&self) -> Result<Used, KeyStoreError> {
        let fields = self.fields(&self.store.key("auth", "used")).await.map_err(unreadable)?;
        let time = |seconds: u64| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        let used = fields.into_iter().filter_map(|(id, text)| {
            let seconds =
                std::str::from_utf8(&text).ok()?.parse().ok().filter(|seconds| *seconds < 1 << 40)?;
            Some((String::from_utf8(id).ok()?, time(seconds)?))
        });
        Ok(used.collect())
    }

    /// Notes when keys were used; the later time counts.
    pub(super) async fn note_used(&self, used: &Used) -> Result<(), StoreError> {
        let key = self.store.key("auth", "used");
        let all: Vec<(&String, String)> =
            used.iter().map(|(id, at)| (id, seconds(*at).to_string())).collect();
        for some in all.chunks(AT_ONCE) {
            let arguments: Vec<&[u8]> =
                some.iter().flat_map(|(id, at)| [id.as_bytes(), at.as_bytes()]).collect();
            self.store.run::<u64>(&self.note_used, &[&key], &arguments).await?;
        }
        Ok(())
    }

    /// Keys that are gone need no time of their last use. What stays does no harm.
    async fn forget_use(&self, outlived: &[String]) {
        for some in outlived.chunks(AT_ONCE) {
            let mut command = redis::cmd("HDEL");
            command.arg(self.store.key("auth", "used")).arg(some);
            if let Err(error) = self.store.ask::<u64>(command).await {
                tracing::debug!(%error, "times of use of keys that are gone stay in redis");
            }
        }
    }

    /// Word of changes.
    pub(super) fn changes(&self) -> Subscription {
        self.store.subscribe(&self.channel())
    }

    /// What the keys are called now.
    pub(super) async fn revision(&self) -> Result<Revision, StoreError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.key()).arg(REVISION);
        let revision: Option<Vec<u8>> = self.store.ask(command).await?;
        Ok(revision.unwrap_or_default())
    }

    /// Reads all keys. What of them cannot be used is passed over.
    pub(super) async fn read(&self, now: SystemTime) -> Result<Reading, StoreError> {
        let revision = self.revision().await?;
        let fields = self.fields(&self.key()).await?;
        let mut malformed = Vec::new();
        let mut keys =
            Register::from_iter(fields.iter().filter(|(id, _)| *id != REVISION.as_bytes()).filter_map(
                |(id, text)| match record::read(id, text) {
                    Ok(entry) => Some(entry),
                    Err(reason) => {
                        if malformed.len() < TOLD {
                            malformed
                                .push((id.escape_ascii().to_string().chars().take(40).collect(), reason));
                        }
                        None
                    }
                },
            ));
        let outlived = keys.forget_outlived(now);
        Ok(Reading { revision, keys, outlived, malformed })
    }

    /// Writes entries, and takes out those that are over, if the keys are still those of this revision. Returns the next
    /// one, or `None` if they were not.
    pub(super) async fn write(
        &self,
        revision: &Revision,
        news: &[&ApiKeyEntry],
        outlived: &[String],
    ) -> Result<Option<Revision>, StoreError> {
        let mut revision = revision.clone();
        let parts = news.chunks(AT_ONCE).map(|part| (part, [].as_slice()));
        for (part, gone) in parts.chain(outlived.chunks(AT_ONCE).map(|gone| ([].as_slice(), gone))) {
            let next = random_word().map_err(|error| StoreError::Lost(error.to_string()))?.into_bytes();
            let mut arguments = vec![
                revision,
                next.clone(),
                self.channel().into_bytes(),
                part.len().to_string().into_bytes(),
            ];
            for entry in part {
                arguments.extend([entry.id.clone().into_bytes(), record::write(entry)]);
            }
            arguments.extend(gone.iter().map(|id| id.clone().into_bytes()));
            let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
            let done: u64 = self.store.run(&self.change, &[&self.key()], &arguments).await?;
            if done != 1 {
                return Ok(None);
            }
            revision = next;
        }
        Ok(Some(revision))
    }

    /// All fields of a hash, some at a time, so that none of the answers is large.
    async fn fields(&self, key: &str) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        let (mut cursor, mut all) = (0_u64, BTreeMap::new());
        loop {
            let mut command = redis::cmd("HSCAN");
            command.arg(key).arg(cursor).arg("COUNT").arg(AT_ONCE);
            let (next, fields): (u64, Fields) = self.store.ask(command).await?;
            all.extend(fields);
            if all.len() > MOST + 1 {
                return Err(StoreError::Garbage(format!("{key} has over {MOST} fields")));
            }
            if next == 0 {
                return Ok(all);
            }
            cursor = next;
        }
    }

    fn key(&self) -> String {
        self.store.key("auth", "keys")
    }

    fn channel(&self) -> String {
        self.store.key("auth", "changed")
    }
}

fn in_order(keys: &Register) -> ApiKeyFile {
    let mut keys: Vec<ApiKeyEntry> = keys.keys().cloned().collect();
    keys.sort_by_key(|key| key.created);
    ApiKeyFile { keys }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn unreadable(error: StoreError) -> KeyStoreError {
    KeyStoreError::Unreadable(format!("the keys in redis: {error}"))
}
