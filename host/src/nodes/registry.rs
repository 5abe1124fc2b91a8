//! Which nodes there are, and what each of them serves.
//!
//! Owns this node's word of itself in the store, which ends by itself when the node does not renew it, and the
//! list of the others as it was last seen. Without a store the list has this node alone. Nothing waits for it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;

use super::info::{Addresses, NodeInfo, load, models};
use crate::repository::ModelIndex;
use crate::store::{Store, StoreError};
use crate::telemetry::NodeMetrics;

/// Heart-beats that may be missed.
const MISSED: u32 = 4;
/// All keys in one slot of a cluster.
const SLOT: &str = "{nodes}";

/// Renews a node's word, and reads those of all: ids and words, in turn. The list is by the server's clock, which is one
/// for all of them: by those of nodes, one that is ahead would take the others off. Nodes that have been silent for a
/// minute go, and so does what is dated after now. Of what no node has written, nothing is read but its length.
const RENEW: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 60000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + 60000, '+inf')
local found, size = {}, 0
for _, id in ipairs(redis.call('ZREVRANGE', KEYS[1], 0, 1023)) do
  local key = ARGV[4] .. id
  local length = redis.pcall('STRLEN', key)
  if type(length) == 'number' and length > 0 and size + length <= 8388608 then
    size = size + length
    found[#found + 1] = id
    found[#found + 1] = redis.call('GET', key)
  end
end
return found";

/// Who a node is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// No other node and no other process has it.
    pub id: String,
    /// What its operator calls it.
    pub name: String,
    started: u64,
}

impl Identity {
    /// One for this process. Without a name it is the machine's.
    pub fn new(name: Option<String>) -> Self {
        use std::hash::{BuildHasher as _, RandomState};
        let started = now();
        let id = format!("{:016x}", RandomState::new().hash_one((started, std::process::id())));
        let machine = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let machine = || machine().or_else(|| std::env::var("HOSTNAME").ok());
        let name = name.or_else(machine).map(|name| name.trim().to_owned());
        Self { name: name.filter(|name| !name.is_empty()).unwrap_or_else(|| id.clone()), id, started }
    }
}

/// The nodes, as an operator is told.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The id of the node that was asked.
    pub own: String,
    /// Whether there is a store, and whether it answered at the last heart-beat.
    pub reached: Option<bool>,
    /// When the others were seen, in milliseconds since 1970; `None` for never.
    pub seen: Option<u64>,
    /// The node that was asked, and all others, by name.
    pub nodes: Vec<NodeInfo>,
}

/// See the module.
pub struct Nodes {
    identity: Identity,
    addresses: Addresses,
    state: Box<dyn Fn() -> &'static str + Send + Sync>,
    index: Arc<ModelIndex>,
    store: Option<Store>,
    renew: redis::Script,
    beat: Duration,
    metrics: Arc<NodeMetrics>,
    seen: ArcSwap<Seen>,
    /// Whether this node has left the list: one word at a time.
    has_left: tokio::sync::Mutex<bool>,
}

#[derive(Debug, Default)]
struct Seen {
    reached: bool,
    at: Option<u64>,
    others: Vec<NodeInfo>,
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Nodes {
    /// This node, and those that it sees in a store. `state` tells how far the server is in its life.
    pub fn new(
        (identity, addresses): (Identity, Addresses),
        state: Box<dyn Fn() -> &'static str + Send + Sync>,
        index: Arc<ModelIndex>,
        (store, beat): (Option<Store>, Duration),
        metrics: Arc<NodeMetrics>,
    ) -> Self {
        Self {
            identity,
            addresses,
            state,
            index,
            store,
            renew: redis::Script::new(RENEW),
            beat,
            metrics,
            seen: ArcSwap::default(),
            has_left: tokio::sync::Mutex::default(),
        }
    }

    /// Renews this node's word and looks at the others', for as long as the process lives.
    pub async fn run(self: Arc<Self>) {
        let Some(store) = &self.store else {
            self.metrics.nodes(1);
            return;
        };
        loop {
            let has_left = self.has_left.lock().await;
            if *has_left {
                return;
            }
            let renewed = self.renew(store).await;
            drop(has_left);
            match renewed {
                Ok(others) => self.see(others),
                Err(error) => self.lose(&error),
            }
            tokio::time::sleep(self.beat).await;
        }
    }

    /// Takes this node off the list.
    pub async fn leave(&self) {
        let Some(store) = &self.store else {
            return;
        };
        let mut has_left = self.has_left.lock().await;
        *has_left = true;
        let mut pipeline = redis::pipe();
        pipeline.del(self.key(store)).ignore().zrem(list(store), &self.identity.id).ignore();
        if let Err(error) = store.ask_all::<()>(pipeline).await {
            tracing::debug!(%error, "the list of nodes has this one until its time is over");
        }
    }

    /// All nodes.
    pub fn listing(&self) -> Listing {
        let seen = self.seen.load();
        let mut nodes = seen.others.clone();
        nodes.push(self.own());
        nodes.sort_by(|left, right| (&left.name, &left.id).cmp(&(&right.name, &right.id)));
        Listing {
            own: self.identity.id.clone(),
            reached: self.store.as_ref().map(|_| seen.reached),
            seen: seen.at,
            nodes,
        }
    }

    /// Brings the metrics up to now, just before they are read.
    pub fn observe(&self) {
        self.metrics.observe();
    }

    /// Whether another node has both versions of a rollout: it can judge them better than one that has not.
    pub fn others_compare(&self, model: &str) -> bool {
        self.seen.load().others.iter().any(|node| node.serving(model) > 1)
    }

    fn own(&self) -> NodeInfo {
        let (in_use, waiting) = load(&self.index);
        NodeInfo {
            id: self.identity.id.clone(),
            name: self.identity.name.clone(),
            addresses: self.addresses.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.identity.started,
            at: now(),
            state: (self.state)().to_owned(),
            in_use,
            waiting,
            models: models(&self.index),
        }
    }

    fn key(&self, store: &Store) -> String {
        format!("{}{}", keys(store), self.identity.id)
    }

    /// Says that this node is there; returns the others.
    async fn renew(&self, store: &Store) -> Result<Vec<NodeInfo>, StoreError> {
        let own = serde_json::to_vec(&self.own()).map_err(|error| StoreError::Garbage(error.to_string()))?;
        let (lasts, keys) = (millis(self.beat * MISSED).to_string(), keys(store));
        let arguments: [&[u8]; 4] = [self.identity.id.as_bytes(), &own, lasts.as_bytes(), keys.as_bytes()];
        let found: Vec<(Vec<u8>, Vec<u8>)> =
            store.run(&self.renew, &[&list(store), &self.key(store)], &arguments).await?;
        let others = found.into_iter().filter(|(id, _)| *id != self.identity.id.as_bytes());
        Ok(others.filter_map(|(id, text)| NodeInfo::read(&id, &text)).collect())
    }

    fn see(&self, others: Vec<NodeInfo>) {
        let before = self.seen.load();
        for node in others.iter().filter(|node| !before.others.iter().any(|known| known.id == node.id)) {
            tracing::info!(
                node = node.name,
                id = node.id,
                address = node.addresses.http,
                "another node is there"
            );
        }
        for node in before.others.iter().filter(|node| !others.iter().any(|known| known.id == node.id)) {
            tracing::info!(node = node.name, id = node.id, "a node has gone");
        }
        self.metrics.nodes(others.len() + 1);
        self.seen.store(Arc::new(Seen { reached: true, at: Some(now()), others }));
    }

    fn lose(&self, error: &StoreError) {
        let before = self.seen.load();
        if before.reached {
            tracing::warn!(%error, "the other nodes cannot be seen: each serves on as it was");
            let (at, others) = (before.at, before.others.clone());
            self.seen.store(Arc::new(Seen { reached: false, at, others }));
        }
    }
}

fn list(store: &Store) -> String {
    store.key("nodes", SLOT)
}

/// What keys of nodes begin with.
fn keys(store: &Store) -> String {
    store.key("node", &format!("{SLOT}:"))
}

/// Milliseconds since 1970.
fn now() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
