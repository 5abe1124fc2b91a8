//! Where records of traffic lie in the store, and how a node reads, puts and leads.
//!
//! Owns the keys and the scripts. All records lie in one hash, so that one look tells what has changed of all
//! models, and a put is a compare-and-set of one of its fields, told to all nodes in the same step. It decides
//! nothing about what is in them.

use std::time::Duration;

use super::share::Put;
use crate::store::{Store, StoreError, Subscription};
use crate::traffic::Counted;

/// How long a lead lasts that nobody prolongs.
const LEAD: Duration = Duration::from_secs(3);
/// How long counts lie that nobody writes to any more.
const COUNTS: Duration = Duration::from_secs(24 * 3600);
/// How long counts of a rollout say anything after the node that made them is gone.
const COUNTS_OF_ROLLOUT: Duration = Duration::from_secs(600);

/// The records that are not what the node has heard last: those whose texts begin with another mark (see
/// [`super::share::mark`]), and, with nothing in the place of the text, those that are gone. First it says whether that
/// is all, or as much as is read at once. Of what is longer than any record, only the beginning is read: one that
/// somebody else has put there must not keep the others from being heard in time; nor must names that no model has.
const LOOK: &str = r"
local known = {}
for at = 1, #ARGV, 2 do known[ARGV[at]] = ARGV[at + 1] end
local all = redis.call('HGETALL', KEYS[1])
local changed, size = {'all'}, 0
for at = 1, #all, 2 do
  local model, text = all[at], all[at + 1]
  if #text > 1048576 then text = string.sub(text, 1, 64) end
  local mark = string.sub(string.match(text, '^%d+ [^ ]+') or text, 1, 64)
  if known[model] ~= mark and #model <= 128 and string.find(model, '^[%w_-][%w._-]*$') then
    if size > 262144 then
      changed[1] = 'some'
    else
      size = size + #text
      changed[#changed + 1] = model
      changed[#changed + 1] = text
    end
  end
  known[model] = nil
end
for model, mark in pairs(known) do
  if mark ~= '' then
    changed[#changed + 1] = model
    changed[#changed + 1] = ''
  end
end
return changed";

/// What stands in one record's place, or its beginning as above.
const READ: &str = r"
local text = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if #text > 1048576 then text = string.sub(text, 1, 64) end
return text";

/// Puts a record in the place of the one that is expected; returns 1, or 0 and what stands there.
const PUT: &str = r"
local stored = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if #stored > 1048576 then stored = string.sub(stored, 1, 64) end
if stored ~= ARGV[2] then return {'0', stored} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[1])
return {'1', ''}";

/// Takes a record out if it is the one that is expected; returns whether that is so.
const REMOVE: &str = r"
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
if redis.call('HDEL', KEYS[1], ARGV[1]) == 1 then redis.call('PUBLISH', ARGV[3], ARGV[1]) end
return 1";

/// Takes the lead of a model, or prolongs it; returns whether it is this node's.
const HOLD: &str = r"
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1";

/// Gives a lead back.
const RELEASE: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0";

/// Says what a node has counted, and reads what the others have: names and texts, in turn. Dated by the server's clock,
/// which is one for all of them: by those of nodes, one that is ahead would throw away what the others say. Behind the
/// date a text says for how long it counts; what does not any more goes, and of too many the earliest.
const EXCHANGE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s %s', now, ARGV[2], ARGV[3]))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local all, kept, stale = redis.call('HGETALL', KEYS[1]), {}, {}
for at = 1, #all, 2 do
  local name, text = all[at], all[at + 1]
  local said, lasts = string.match(text, '^(%d+) (%d+) ')
  said, lasts = tonumber(said or ''), tonumber(lasts or '')
  if said and lasts and #text <= 1048576 and now - said < lasts and said - now < lasts then
    kept[#kept + 1] = {said, name, text}
  else
    stale[#stale + 1] = name
  end
end
table.sort(kept, function(one, other) return one[1] > other[1] end)
local answer = {}
for at, entry in ipairs(kept) do
  if at > 256 then
    stale[#stale + 1] = entry[2]
  elseif entry[2] ~= ARGV[1] then
    answer[#answer + 1] = entry[2]
    answer[#answer + 1] = entry[3]
  end
end
for _, name in ipairs(stale) do redis.call('HDEL', KEYS[1], name) end
return answer";

/// How a put went.
#[derive(Debug)]
pub enum Placed {
    /// It stands there.
    Done,
    /// Something else stood there than was expected; empty for nothing.
    Conflict(Vec<u8>),
}

/// What a look has found.
#[derive(Debug, Default)]
pub struct Looked {
    /// The models whose records have changed, and what stands there now; nothing for those that are gone.
    pub changed: Vec<(String, Vec<u8>)>,
    /// Whether that is all; else the next look has more.
    pub is_all: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Shelf {
    store: Store,
    records: String,
    channel: String,
    look: redis::Script,
    read: redis::Script,
    put: redis::Script,
    remove: redis::Script,
    exchange: redis::Script,
    hold: redis::Script,
    release: redis::Script,
}

impl Shelf {
    /// Whether the store answered when it was asked last, and is asked at all.
    pub fn is_up(&self) -> bool {
        self.store.is_up()
    }

    /// The records in this store.
    pub fn new(store: Store) -> Self {
        let script = redis::Script::new;
        Self {
            records: store.key("traffic", "records"),
            channel: store.key("traffic", "changed"),
            store,
            look: script(LOOK),
            read: script(READ),
            put: script(PUT),
            remove: script(REMOVE),
            exchange: script(EXCHANGE),
            hold: script(HOLD),
            release: script(RELEASE),
        }
    }

    /// Told of each change, and of each time that changes may have been missed.
    pub fn changes(&self) -> Changes {
        Changes(self.store.subscribe(&self.channel))
    }

    /// The texts of all records that have changed; each model's text that is known begins with this mark.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn look(&self, known: &[(String, Vec<u8>)]) -> Result<Looked, StoreError> {
        let arguments: Vec<&[u8]> =
            known.iter().flat_map(|(model, mark)| [model.as_bytes(), mark.as_slice()]).collect();
        let found: Vec<Vec<u8>> = self.store.run(&self.look, &[&self.records], &arguments).await?;
        let mut words = found.into_iter();
        let is_all = words.next().is_some_and(|word| word == b"all");
        let mut changed = Vec::new();
        while let (Some(model), Some(text)) = (words.next(), words.next()) {
            // A name that is no text is no model's.
            changed.extend(String::from_utf8(model).ok().map(|model| (model, text)));
        }
        Ok(Looked { changed, is_all })
    }

    /// What stands in the place of a model's record; empty for nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read(&self, model: &str) -> Result<Vec<u8>, StoreError> {
        self.store.run(&self.read, &[&self.records], &[model.as_bytes()]).await
    }

    /// Puts a record, and tells the other nodes.
    ///
    /// # Errors
    /// [`StoreError`]; it may have been put all the same.
    pub async fn put(&self, model: &str, put: &Put) -> Result<Placed, StoreError> {
        let arguments: [&[u8]; 4] =
            [model.as_bytes(), &put.expected, put.wanted.as_bytes(), self.channel.as_bytes()];
        let answer: Vec<Vec<u8>> = self.store.run(&self.put, &[&self.records], &arguments).await?;
        if answer.first().is_some_and(|word| word == b"1") {
            return Ok(Placed::Done);
        }
        Ok(Placed::Conflict(answer.into_iter().nth(1).unwrap_or_default()))
    }

    /// Takes a model's record out, and tells the other nodes. Returns whether it was the one that is expected.
    ///
    /// # Errors
    /// [`StoreError`]; it may have been taken out all the same.
    pub async fn remove(&self, model: &str, expected: &[u8]) -> Result<bool, StoreError> {
        let arguments: [&[u8]; 3] = [model.as_bytes(), expected, self.channel.as_bytes()];
        let removed: i64 = self.store.run(&self.remove, &[&self.records], &arguments).await?;
        Ok(removed == 1)
    }

    /// Takes the lead of a model's rollout for a few seconds, or prolongs it. Returns whether this node has it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hold(&self, model: &str, node: &str) -> Result<bool, StoreError> {
        let (key, lead) = (self.store.key("lead", model), LEAD.as_millis().to_string());
        let held: i64 = self.store.run(&self.hold, &[&key], &[node.as_bytes(), lead.as_bytes()]).await?;
        Ok(held == 1)
    }

    /// Gives a lead back, so that another node need not wait for its end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release(&self, model: &str, node: &str) -> Result<(), StoreError> {
        let key = self.store.key("lead", model);
        self.store.run::<i64>(&self.release, &[&key], &[node.as_bytes()]).await.map(|_| ())
    }

    /// Says what this node has counted of a model, and hears what the others have, each by its name. What is too
    /// old to say anything is taken away.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn exchange(
        &self,
        model: &str,
        node: &str,
        counted: &Counted,
        is_bandit: bool,
    ) -> Result<Vec<(String, Counted)>, StoreError> {
        let key = self.store.key("counts", model);
        let own = serde_json::to_vec(counted);
        let own = own.map_err(|error| StoreError::Garbage(error.to_string()))?;
        let lasts = if is_bandit { COUNTS } else { COUNTS_OF_ROLLOUT };
        let [lasts, most] = [lasts, COUNTS].map(|time| millis(time).to_string());
        let arguments: [&[u8]; 4] = [node.as_bytes(), lasts.as_bytes(), &own, most.as_bytes()];
        let said: Vec<(Vec<u8>, Vec<u8>)> = self.store.run(&self.exchange, &[&key], &arguments).await?;
        Ok(said.into_iter().filter_map(|(name, text)| counts(name, &text)).collect())
    }
}

/// What another node has counted, out of its text.
fn counts(name: Vec<u8>, text: &[u8]) -> Option<(String, Counted)> {
    let json = text.splitn(3, |byte| *byte == b' ').nth(2)?;
    Some((String::from_utf8(name).ok()?, serde_json::from_slice(json).ok()?))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What other nodes have changed.
#[derive(Debug)]
pub struct Changes(Subscription);

impl Changes {
    /// Waits until something has changed, or may have: what has, a look tells.
    pub async fn next(&mut self) {
        drop(self.0.next().await);
    }
}

#[cfg(test)]
#[path = "shelf_tests.rs"]
mod tests;
