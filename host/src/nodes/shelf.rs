//! Where records of traffic lie in the store, and how a node reads, puts and leads.
//!
//! Owns the keys and the scripts. All records lie in one hash, so that one look tells what has changed of all
//! models, and a put is a compare-and-set of one of its fields, told to all nodes in the same step. It decides
//! nothing about what is in them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::share::Put;
use crate::store::{Event, Store, StoreError, Subscription};
use crate::traffic::Counted;

/// How long a lead lasts that nobody prolongs.
const LEAD: Duration = Duration::from_secs(3);
/// How long counts lie that nobody writes to any more.
const COUNTS: Duration = Duration::from_secs(24 * 3600);
/// How long counts of a rollout say anything after the node that made them is gone.
const COUNTS_OF_ROLLOUT: Duration = Duration::from_secs(600);

/// The records that are not what the node has heard last: those whose texts begin with another mark, and, with
/// nothing in the place of the text, those that are gone.
const LOOK: &str = r"
local known = {}
for at = 1, #ARGV, 2 do known[ARGV[at]] = ARGV[at + 1] end
local all = redis.call('HGETALL', KEYS[1])
local changed = {}
for at = 1, #all, 2 do
  local model, text = all[at], all[at + 1]
  if known[model] ~= string.match(text, '^%d+ [^ ]+') then
    changed[#changed + 1] = model
    changed[#changed + 1] = text
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

/// Puts a record in the place of the one that is expected; returns 1, or 0 and what stands there.
const PUT: &str = r"
local stored = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if stored ~= ARGV[2] then return {'0', stored} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[1])
return {'1', ''}";

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

/// How a put went.
#[derive(Debug)]
pub enum Placed {
    /// It stands there.
    Done,
    /// Something else stood there than was expected; empty for nothing.
    Conflict(String),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Shelf {
    store: Store,
    records: String,
    channel: String,
    look: redis::Script,
    put: redis::Script,
    hold: redis::Script,
    release: redis::Script,
}

/// What a node has counted, and when.
#[derive(Serialize, Deserialize)]
struct Dated {
    at: u64,
    is_bandit: bool,
    counted: Counted,
}

impl Shelf {
    /// The records in this store.
    pub fn new(store: Store) -> Self {
        let script = redis::Script::new;
        Self {
            records: store.key("traffic", "records"),
            channel: store.key("traffic", "changed"),
            store,
            look: script(LOOK),
            put: script(PUT),
            hold: script(HOLD),
            release: script(RELEASE),
        }
    }

    /// Told of each change, and of each time that changes may have been missed.
    pub fn changes(&self) -> Changes {
        Changes(self.store.subscribe(&self.channel))
    }

    /// The texts of all records that have changed; each model's text that is known begins with this mark. Empty
    /// texts are of records that are gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn look(&self, known: &[(String, String)]) -> Result<Vec<(String, String)>, StoreError> {
        let arguments: Vec<&[u8]> =
            known.iter().flat_map(|(model, mark)| [model.as_bytes(), mark.as_bytes()]).collect();
        let changed: Vec<Vec<u8>> = self.store.run(&self.look, &[&self.records], &arguments).await?;
        let mut texts = changed.into_iter().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let mut found = Vec::new();
        while let (Some(model), Some(text)) = (texts.next(), texts.next()) {
            found.push((model, text));
        }
        Ok(found)
    }

    /// Puts a record, and tells the other nodes.
    ///
    /// # Errors
    /// [`StoreError`]; it may have been put all the same.
    pub async fn put(&self, model: &str, put: &Put) -> Result<Placed, StoreError> {
        let arguments: [&[u8]; 4] =
            [model.as_bytes(), put.expected.as_bytes(), put.wanted.as_bytes(), self.channel.as_bytes()];
        let answer: Vec<Vec<u8>> = self.store.run(&self.put, &[&self.records], &arguments).await?;
        match answer.first().map(Vec::as_slice) {
            Some(b"1") => Ok(Placed::Done),
            _ => {
                let stored = answer.get(1).map(|text| String::from_utf8_lossy(text).into_owned());
                Ok(Placed::Conflict(stored.unwrap_or_default()))
            }
        }
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
        counted: Counted,
        is_bandit: bool,
        now: u64,
    ) -> Result<Vec<(String, Counted)>, StoreError> {
        let key = self.store.key("counts", model);
        let own = serde_json::to_vec(&Dated { at: now, is_bandit, counted });
        let own = own.map_err(|error| StoreError::Garbage(error.to_string()))?;
        let mut pipeline = redis::pipe();
        pipeline.hset(&key, node, own).ignore();
        pipeline.cmd("PEXPIRE").arg(&key).arg(millis(COUNTS)).ignore();
        pipeline.cmd("HGETALL").arg(&key);
        let (all,): (BTreeMap<String, Vec<u8>>,) = self.store.ask_all(pipeline).await?;
        let (mut others, mut stale) = (Vec::new(), Vec::new());
        for (name, bytes) in all.into_iter().filter(|(name, _)| name != node) {
            let dated = serde_json::from_slice::<Dated>(&bytes).ok();
            let lasts = |dated: &Dated| if dated.is_bandit { COUNTS } else { COUNTS_OF_ROLLOUT };
            match dated.filter(|dated| now.saturating_sub(dated.at) < millis(lasts(dated))) {
                Some(dated) => others.push((name, dated.counted)),
                None => stale.push(name),
            }
        }
        if !stale.is_empty() {
            let mut command = redis::cmd("HDEL");
            command.arg(&key).arg(stale);
            self.store.ask::<i64>(command).await?;
        }
        Ok(others)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What other nodes have changed.
#[derive(Debug)]
pub struct Changes(Subscription);

impl Changes {
    /// Waits for a change; the model that it is of, or `None` if any may have changed.
    pub async fn next(&mut self) -> Option<String> {
        match self.0.next().await {
            Event::Reconnected => None,
            Event::Message(model) => String::from_utf8(model.to_vec()).ok(),
        }
    }
}
