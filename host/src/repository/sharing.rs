//! Traffic that nodes have in common: what one of them decides, all of them do.
//!
//! Owns the exchange with the store: commands are put there by compare-and-set before they are acknowledged, what
//! others have put is carried out here, and what rollouts and bandits count is added up over all nodes. While the
//! store is away each node serves on as it was, takes commands for itself, and brings them when it is back. No
//! request waits for any of it.

mod tidy;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use self::tidy::TIDIED;
use super::agreed::{Agreed, Synced, millis};
use super::commands::KeeperHandle;
use super::decisions::Decisions;
use super::index::ModelIndex;
use super::layout::is_name;
use crate::nodes::{Looked, Nodes, Placed, Shelf};
use crate::store::StoreError;
use crate::telemetry::NodeMetrics;
use crate::traffic::{Command, Event, Say, Stands, Traffic};

/// From one look at the store to the next, if nothing is heard of it: a message that was lost is made up for.
const LOOK: Duration = Duration::from_millis(500);
/// Changes that one look takes in at most, and how long it waits for one more.
const BURST: usize = 256;
const PAUSE: Duration = Duration::from_millis(2);
/// How long a start waits for the store.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How often a command begins anew because another node's came first.
const TRIES: usize = 8;

/// How a model's record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedState {
    /// Rises with each change of any node.
    pub revision: u64,
    /// Whether the store has all that this node knows.
    pub is_shared: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Sharing {
    shelf: Shelf,
    node: String,
    index: Arc<ModelIndex>,
    decisions: Arc<Decisions>,
    metrics: Arc<NodeMetrics>,
    models: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<Agreed>>>>,
    /// How each record stood when it was last looked at.
    standing: Mutex<BTreeMap<String, SharedState>>,
    /// Models whose rollouts this node moves.
    leads: Mutex<BTreeSet<String>>,
    /// Something has moved here.
    moved: Notify,
    /// Reasons that were told: why the store cannot be reached, and why records cannot be read.
    told: Mutex<BTreeMap<String, String>>,
}

impl Sharing {
    /// What this node shares; nothing is exchanged yet.
    pub fn new(
        shelf: Shelf,
        node: &str,
        index: Arc<ModelIndex>,
        decisions: Arc<Decisions>,
        metrics: Arc<NodeMetrics>,
    ) -> Self {
        let now = millis(SystemTime::now());
        let from_disk = |(model, text): (String, Option<String>)| {
            let agreed = Agreed::from_disk(text.as_deref(), decisions.traffic(&model), node, now);
            (model, Arc::new(tokio::sync::Mutex::new(agreed)))
        };
        index.share();
        let models = decisions.all_shared().into_iter().map(from_disk).collect();
        Self {
            shelf,
            node: node.to_owned(),
            index,
            decisions,
            metrics,
            models: Mutex::new(models),
            standing: Mutex::default(),
            leads: Mutex::default(),
            moved: Notify::new(),
            told: Mutex::default(),
        }
    }

    /// Takes over what the others have agreed on, before any version is loaded: else a node that comes would serve
    /// by its own old word until it has heard theirs. Waits a second at most; without the store the last known
    /// state counts.
    pub async fn begin(&self) {
        let began = tokio::time::Instant::now();
        while began.elapsed() < FIRST_LOOK {
            // A start comes before the first connection: that is nothing to tell of.
            if !self.shelf.is_up() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            match self.look().await {
                Ok(Looked { changed, is_all }) => {
                    for (model, text) in changed {
                        let agreed = self.agreed(&model);
                        let mut agreed = agreed.lock().await;
                        self.hear(&model, &mut agreed, text);
                        let _loaded_later = self.carry_out_policy(&model, &mut agreed).await;
                    }
                    if is_all {
                        self.note_moved().await;
                        return;
                    }
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        tracing::warn!(
            "the store that nodes share cannot be reached: traffic begins with its last known state"
        );
        self.note_moved().await;
    }

    /// Has traffic that comes begin with what is known, be it from the store or from the disk.
    async fn note_moved(&self) {
        for (model, agreed) in self.all() {
            self.decisions.set_moved(&model, agreed.lock().await.moves());
        }
    }

    /// Exchanges for as long as the process lives.
    pub async fn run(self: Arc<Self>, keeper: KeeperHandle, nodes: Arc<Nodes>) {
        let mut changes = self.shelf.changes();
        let mut tidied: Option<tokio::time::Instant> = None;
        loop {
            tokio::select! {
                () = changes.next() => {}
                () = self.moved.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            // Changes come in bursts: one look for all of them.
            let mut more = BURST;
            while more > 0 && tokio::time::timeout(PAUSE, changes.next()).await.is_ok() {
                more -= 1;
            }
            self.reconcile(&keeper).await;
            self.exchange(&nodes).await;
            if tidied.is_none_or(|at| at.elapsed() > TIDIED) {
                tidied = Some(tokio::time::Instant::now());
                self.tidy().await;
            }
        }
    }

    /// Something has moved on this node: the others are to hear of it.
    pub fn has_moved(&self) {
        self.moved.notify_one();
    }

    /// How a model's record stood at the last look.
    pub fn standing(&self, model: &str) -> SharedState {
        let known = lock(&self.standing).get(model).copied();
        known.unwrap_or(SharedState { revision: 0, is_shared: true })
    }

    /// Carries out an operator's command. Returns what came of it once the others can know of it, or cannot be told.
    ///
    /// # Errors
    /// Why it cannot be carried out, by what all nodes have come to.
    pub async fn command(&self, model: &str, traffic: &Traffic, command: Command) -> Result<Event, String> {
        let agreed = self.agreed(model);
        let mut agreed = agreed.lock().await;
        for _ in 0..TRIES {
            self.look_at(model, &mut agreed).await;
            self.sync(model, traffic, &mut agreed);
            let before = agreed.share.record().clone();
            let event = traffic.command(command, SystemTime::now())?;
            self.sync(model, traffic, &mut agreed);
            match self.put(model, &mut agreed).await {
                Ok(true) => {
                    self.keep(model, &agreed).await;
                    return Ok(event);
                }
                Ok(false) => {
                    agreed.take_back(before);
                    self.sync(model, traffic, &mut agreed);
                }
                Err(error) => {
                    self.keep(model, &agreed).await;
                    tracing::warn!(model, %error, "the command holds on this node alone until the store is back");
                    return Ok(event);
                }
            }
        }
        Err("other nodes keep changing it; try again".to_owned())
    }

    /// Shares the traffic that an operator has set here, and that is in effect and kept.
    pub async fn policy_set(&self, model: &str, text: Option<String>) {
        let agreed = self.agreed(model);
        let mut agreed = agreed.lock().await;
        self.look_at(model, &mut agreed).await;
        for _ in 0..TRIES {
            // The later one counts: whoever set another meanwhile did so before.
            agreed.set_policy(text.clone(), &self.node, millis(SystemTime::now()));
            match self.put(model, &mut agreed).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(model, %error, "the traffic holds on this node alone until the store is back");
                    break;
                }
            }
        }
        self.keep(model, &agreed).await;
        self.has_moved();
    }

    /// Looks at all records, carries out what is new, and puts what is not there.
    async fn reconcile(&self, keeper: &KeeperHandle) {
        let Looked { changed, is_all } =
            self.look().await.unwrap_or(Looked { changed: Vec::new(), is_all: true });
        if !is_all {
            self.has_moved();
        }
        let mut heard: BTreeMap<String, Vec<u8>> = changed.into_iter().collect();
        let serving = self.index.all();
        let mut names: BTreeSet<String> = serving.keys().cloned().collect();
        names.extend(heard.keys().cloned());
        names.extend(lock(&self.models).keys().cloned());
        for model in names {
            let agreed = self.agreed(&model);
            let mut agreed = agreed.lock().await;
            if let Some(text) = heard.remove(&model) {
                self.hear(&model, &mut agreed, text);
            }
            if self.carry_out_policy(&model, &mut agreed).await {
                let (keeper, model) = (keeper.clone(), model.clone());
                // Versions that it names may have to be loaded first.
                tokio::spawn(async move { keeper.refresh(&model).await });
            }
            if let Some(found) = serving.get(&model) {
                self.sync(&model, &found.traffic, &mut agreed);
            }
            let _later = self.put(&model, &mut agreed).await;
            self.keep(&model, &agreed).await;
        }
    }

    /// Takes the lead where nobody has it, and adds up what all nodes have counted.
    async fn exchange(&self, nodes: &Nodes) {
        let now = SystemTime::now();
        for (model, found) in self.index.all().iter() {
            let traffic = &found.traffic;
            if let Some(counted) = traffic.counted(&self.node) {
                let is_bandit = traffic.strategy() == "bandit";
                let others = self.shelf.exchange(model, &self.node, &counted, is_bandit).await;
                for (node, counted) in others.unwrap_or_default() {
                    traffic.learn(&node, &counted, now);
                }
            }
            let may_lead = match traffic.stands() {
                Some(Stands::Complete) => true,
                Some(Stands::CanaryOnly) => !nodes.others_compare(model),
                None => false,
            };
            traffic.set_say(self.say(model, may_lead).await);
        }
    }

    async fn say(&self, model: &str, may_lead: bool) -> Say {
        if !may_lead {
            if lock(&self.leads).remove(model) {
                let _ends_by_itself = self.shelf.release(model, &self.node).await;
            }
            return Say::Follows;
        }
        match self.shelf.hold(model, &self.node).await {
            Ok(true) => {
                if lock(&self.leads).insert(model.to_owned()) {
                    tracing::info!(model, "this node moves the rollout");
                }
                Say::Leads
            }
            Ok(false) => {
                lock(&self.leads).remove(model);
                Say::Follows
            }
            Err(_) => Say::CutOff,
        }
    }

    /// Gives back the leads, when the node stops.
    pub async fn end(&self) {
        let leads = std::mem::take(&mut *lock(&self.leads));
        for model in leads {
            let _ends_by_itself = self.shelf.release(&model, &self.node).await;
        }
    }

    async fn look(&self) -> Result<Looked, StoreError> {
        let mut known = Vec::new();
        for (model, agreed) in self.all() {
            known.push((model, agreed.lock().await.share.stored_mark().to_owned()));
        }
        let mut looked = self.shelf.look(&known).await;
        match &mut looked {
            Ok(Looked { changed, is_all }) => {
                self.metrics.synced();
                changed.retain(|(model, _)| is_name(model));
                // What has not changed is as it was.
                let heard: BTreeSet<&String> = changed.iter().map(|(model, _)| model).collect();
                for (model, agreed) in self.all() {
                    if *is_all && !heard.contains(&model) {
                        agreed.lock().await.share.has_looked();
                    }
                }
                if lock(&self.told).remove("").is_some() {
                    tracing::info!("the store that nodes share is back");
                }
            }
            Err(error) => self.tell("", error, |error| {
                tracing::warn!(%error, "the store that nodes share is away: this node serves on as it was");
            }),
        }
        looked
    }

    async fn look_at(&self, model: &str, agreed: &mut Agreed) {
        if let Ok(text) = self.shelf.read(model).await {
            self.hear(model, agreed, text);
        }
    }

    fn hear(&self, model: &str, agreed: &mut Agreed, text: Vec<u8>) {
        match agreed.share.hear(Some(text).filter(|text| !text.is_empty())) {
            Ok(()) => drop(lock(&self.told).remove(model)),
            Err(error) => self.tell(
                model,
                &error,
                |error| tracing::error!(model, %error, "what nodes share cannot be read"),
            ),
        }
    }

    /// Tells a reason once.
    fn tell<E: ToString>(&self, of: &str, error: &E, say: impl FnOnce(&E)) {
        let before = lock(&self.told).insert(of.to_owned(), error.to_string());
        if before.as_deref() != Some(&error.to_string()) && (!of.is_empty() || before.is_none()) {
            say(error);
        }
    }

    fn sync(&self, model: &str, traffic: &Traffic, agreed: &mut Agreed) {
        let Synced { has_changed, events } = agreed.sync(traffic, &self.node, SystemTime::now());
        if has_changed {
            self.metrics.adopted();
            let status = traffic.rollout_status();
            let (phase, step) = status.map_or(("", 0), |status| (status.phase, status.step));
            let version = traffic.main_version().ok();
            tracing::info!(model, phase, step, version = version.as_deref(), "traffic follows another node");
        }
        self.index.note(model, events);
    }

    /// Sets the traffic that another node has set; returns whether this one has to look at the model then.
    async fn carry_out_policy(&self, model: &str, agreed: &mut Agreed) -> bool {
        let Some(policy) = agreed.new_policy() else {
            return false;
        };
        if self.decisions.traffic(model) == policy {
            return false;
        }
        self.metrics.adopted();
        tracing::info!(model, policy = policy.as_deref(), "traffic was set on another node");
        let (decisions, name) = (Arc::clone(&self.decisions), model.to_owned());
        let keeping =
            tokio::task::spawn_blocking(move || decisions.adopt_traffic(&name, policy.as_deref())).await;
        if let Err(reason) = keeping.unwrap_or_else(|error| Err(error.to_string())) {
            tracing::warn!(model, %reason, "the traffic holds until the host ends, and no longer");
        }
        true
    }

    /// Puts what the store has not. Returns false if something else stood there, which is known then.
    async fn put(&self, model: &str, agreed: &mut Agreed) -> Result<bool, StoreError> {
        let is_used = self.note_use(model, agreed);
        let Some(put) = agreed.share.to_put(&self.node).filter(|_| is_used) else {
            return Ok(true);
        };
        match self.shelf.put(model, &put).await {
            Ok(Placed::Done) => {
                agreed.share.has_put(put);
                Ok(true)
            }
            Ok(Placed::Conflict(stored)) => {
                self.metrics.conflicted();
                self.hear(model, agreed, stored);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps the record on the disk, and where requests and operators can see it.
    async fn keep(&self, model: &str, agreed: &Agreed) {
        let record = agreed.share.record();
        let state = SharedState { revision: record.revision, is_shared: agreed.share.is_shared() };
        lock(&self.standing).insert(model.to_owned(), state);
        if record.is_empty() {
            return;
        }
        self.metrics.stands(model, state.revision, state.is_shared);
        self.decisions.set_moved(model, agreed.moves());
        let (decisions, name, text) =
            (Arc::clone(&self.decisions), model.to_owned(), record.encode(&self.node));
        let keeping = tokio::task::spawn_blocking(move || decisions.keep_shared(&name, &text)).await;
        if let Err(reason) = keeping.unwrap_or_else(|error| Err(error.to_string())) {
            self.tell(model, &reason, |reason| {
                tracing::warn!(model, %reason, "what nodes have agreed on is not kept on this one");
            });
        }
    }

    fn agreed(&self, model: &str) -> Arc<tokio::sync::Mutex<Agreed>> {
        Arc::clone(lock(&self.models).entry(model.to_owned()).or_default())
    }

    fn all(&self) -> Vec<(String, Arc<tokio::sync::Mutex<Agreed>>)> {
        lock(&self.models).iter().map(|(model, agreed)| (model.clone(), Arc::clone(agreed))).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
