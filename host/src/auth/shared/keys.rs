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
use super::record::Unusable;
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
/// How long a connection that was lost over a change may take to come back.
const BACK: Duration = Duration::from_secs(5);
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

/// ARGV: where to go on, how many, and how long a text may be: of a longer one, which is none of ours, only its beginning
/// is read, so that it does not keep the others from being read in time.
const SCAN: &str = "
local found, longest = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2]), tonumber(ARGV[3])
for i, text in ipairs(found[2]) do found[2][i] = string.sub(text, 1, longest) end
return found";

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
    /// The ids that a later version of the host has written, and whether it says that they are revoked.
    pub(super) later: BTreeMap<String, bool>,
}

/// A change of which Redis did not say whether it has taken it: what was to be written, and what came of it if it was.
struct Undecided<T> {
    news: Register,
    done: T,
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SharedKeys {
    store: Store,
    change: Script,
    scan: Script,
    note_used: Script,
}

impl SharedKeys {
    /// The keys of this Redis.
    pub fn new(store: Store) -> Self {
        let script = Script::new;
        Self { store, change: script(CHANGE), scan: script(SCAN), note_used: script(NOTE_USED) }
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
    /// They are as they were then; with [`KeyStoreError::Undecided`] it is not known whether they are.
    pub async fn change<T>(
        &self,
        mut change: impl FnMut(&mut ApiKeyFile) -> Result<T, String>,
    ) -> Result<T, KeyStoreError> {
        let mut undecided: Vec<Undecided<T>> = Vec::new();
        for _ in 0..TRIES {
            let before = self.read(SystemTime::now()).await;
            let before = before.map_err(|error| failed(error, &undecided))?;
            // One of them at most: each of them, and of those that follow, needs the revision that the others take away.
            let taken = undecided.iter().position(|one| one.news.news_for(&before.keys).is_empty());
            if let Some(at) = taken {
                return Ok(undecided.swap_remove(at).done);
            }
            let mut keys = in_order(&before.keys);
            let done = change(&mut keys).map_err(KeyStoreError::Unreadable)?;
            let after: Register = keys.into();
            if after.len() > MOST {
                return Err(KeyStoreError::Unreadable(format!("expected at most {MOST} keys in redis")));
            }
            let news = after.news_for(&before.keys);
            match self.write(&before.revision, &news, &before.outlived).await {
                Ok(Some(_)) => {
                    self.forget_use(&before.outlived).await;
                    return Ok(done);
                }
                Ok(None) => {}
                Err(error @ (StoreError::Open | StoreError::Refused(_))) => {
                    return Err(failed(error, &undecided));
                }
                Err(_) => {
                    undecided.push(Undecided { news: news.into_iter().cloned().collect(), done });
                    self.wait().await;
                }
            }
        }
        let reason = "others change the keys in redis all the time; try again";
        Err(failed(StoreError::Refused(reason.to_owned()), &undecided))
    }

    /// Waits until Redis is asked again, for a while.
    async fn wait(&self) {
        let began = tokio::time::Instant::now();
        while !self.store.is_up() && began.elapsed() < BACK {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
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
        let (mut malformed, mut later, mut found) = (Vec::new(), BTreeMap::new(), Vec::new());
        for (id, text) in fields.iter().filter(|(id, _)| *id != REVISION.as_bytes()) {
            let unusable = match record::read(id, text) {
                Ok(entry) => {
                    found.push(entry);
                    continue;
                }
                Err(unusable) => unusable,
            };
            let id: String = id.escape_ascii().to_string().chars().take(40).collect();
            if malformed.len() < TOLD {
                malformed.push((id.clone(), unusable.reason()));
            }
            if let Unusable::Later { is_revoked } = unusable {
                later.insert(id, is_revoked);
            }
        }
        let mut keys = Register::from_iter(found);
        let outlived = keys.forget_outlived(now);
        Ok(Reading { revision, keys, outlived, malformed, later })
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
        let [count, longest] = [AT_ONCE, record::LARGEST + 1].map(|number| number.to_string());
        loop {
            let at = cursor.to_string();
            let arguments = [at.as_bytes(), count.as_bytes(), longest.as_bytes()];
            let (next, fields): (u64, Fields) = self.store.run(&self.scan, &[key], &arguments).await?;
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

/// Why keys were not changed, or why it is not known whether they were.
fn failed<T>(error: StoreError, undecided: &[Undecided<T>]) -> KeyStoreError {
    let ids: std::collections::BTreeSet<&str> =
        undecided.iter().flat_map(|one| one.news.keys()).map(|key| key.id.as_str()).collect();
    if ids.is_empty() {
        return unreadable(error);
    }
    let ids = ids.into_iter().map(str::to_owned).collect();
    KeyStoreError::Undecided { reason: format!("the keys in redis: {error}"), ids }
}

fn unreadable(error: StoreError) -> KeyStoreError {
    KeyStoreError::Unreadable(format!("the keys in redis: {error}"))
}
