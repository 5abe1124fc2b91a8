//! The loop that keeps what is served equal to what the folders say.
//!
//! Owns when folders are looked at, how many versions load at once, and which generations there are. What is
//! to be done is [`Reconciler`]'s to decide, what is told of it is in `announce.rs`. Nothing in here runs on a
//! request's way, and no request waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::commands::{Command, KeeperHandle, LoadAnswer};
use super::decisions::Decisions;
use super::door::Door;
use super::hints::Hints;
use super::index::ModelIndex;
use super::load::Loader;
use super::reconcile::{Reconciler, Work};
use super::rollback::Rollbacks;
use super::scan::{Key, Scan, Scanner};
use super::status::{Draining, LoadStage};
use super::works::Done;
use crate::config::{ModelConfig, ModelEntry, OnDemand, Watch};
use crate::memory::Trim;
use crate::pipeline::Generation;

/// Events come in bursts: what else comes within this time is one hint.
const BURST: Duration = Duration::from_millis(50);
/// From one look for a models folder that is gone to the next.
const MISSING: Duration = Duration::from_millis(500);
/// How long readiness waits at the start for versions whose files are not still.
const STARTUP_PATIENCE: Duration = Duration::from_secs(30);
/// Stages of loads that may wait to be told of; a load that has one more waits.
const STAGES: usize = 64;

/// Where to look, and how often.
#[derive(Clone, Debug)]
pub struct KeeperOptions {
    /// The folder of `<model>/<version>/`.
    pub models: PathBuf,
    /// Models outside of it.
    pub listed: Vec<ModelEntry>,
    /// What stands over `model.yaml`.
    pub decisions: Arc<Decisions>,
    /// From one scan to the next, whatever events say.
    pub rescan: Duration,
    /// How long files must be still before they are loaded.
    pub quiet: Duration,
    /// How long requests may use a generation that was let go before the log says so.
    pub drain: Duration,
    /// Whether events are used.
    pub watch: Watch,
    /// Whether versions are loaded on demand, of models that do not say so themselves.
    pub on_demand: OnDemand,
    /// Bytes that all versions in memory may use together; `None` for as many as it takes.
    pub memory: Option<u64>,
}

/// Why folders cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeeperError {
    /// The models folder cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// The folders cannot be watched, and `repository.watch` is `native`.
    #[error("{0}")]
    Unwatchable(String),
}

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    pub(super) loader: Arc<Loader>,
    pub(super) index: Arc<ModelIndex>,
    pub(super) reconciler: Reconciler,
    /// What serves.
    pub(super) generations: BTreeMap<Key, Arc<Generation>>,
    /// Where requests wait for versions that are not in memory, and what rings when they do.
    pub(super) doors: BTreeMap<Key, Arc<Door>>,
    pub(super) bell: Arc<Notify>,
    /// Loads for which there is no room yet, the first to come first.
    pub(super) without_room: VecDeque<Work>,
    /// Bytes that are set aside for each load that goes on.
    pub(super) coming: BTreeMap<Key, u64>,
    /// What was let go and is not freed yet, the latest last.
    pub(super) draining: BTreeMap<Key, Vec<Draining>>,
    /// What is being worked on, by the number of the work, and how far that has come.
    pub(super) stages: BTreeMap<Key, (u64, Option<LoadStage>)>,
    /// The settings that each model is asked to be served with.
    pub(super) asked: BTreeMap<String, ModelConfig>,
    /// Why a model's traffic is not what is asked for.
    pub(super) held_back: BTreeMap<String, String>,
    /// Versions that have left the index, and when.
    pub(super) gone: Vec<(Key, Instant)>,
    /// The state and reason that were last told of each version.
    pub(super) told: BTreeMap<Key, (&'static str, String)>,
    pub(super) options: KeeperOptions,
    pub(super) rollbacks: Rollbacks,
    pub(super) due: Arc<Notify>,
    eyes: Arc<Mutex<Eyes>>,
    passed_over: BTreeMap<PathBuf, &'static str>,
    /// What was there at the start is still being loaded.
    pub(super) is_starting: bool,
    pub(super) works: JoinSet<Done>,
    pub(super) slots: Slots,
    pub(super) work_count: u64,
    pub(super) drains: JoinSet<Key>,
    pub(super) trim: Trim,
    pub(super) progress: (mpsc::Sender<Progress>, mpsc::Receiver<Progress>),
    commands: (KeeperHandle, mpsc::Receiver<Command>),
    waiting: Vec<(String, oneshot::Sender<LoadAnswer>)>,
    started: Instant,
    last_scan: Instant,
    scan_took: Duration,
    /// Why the models folder could not be read at the last look.
    unreadable: Option<String>,
}

/// How many works of each kind go on at a time.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    pub(super) first: Arc<Semaphore>,
    /// What failed before must not keep others waiting.
    pub(super) again: Arc<Semaphore>,
    /// Nor must anything else keep those waiting whom a request waits for.
    pub(super) wakes: Arc<Semaphore>,
}

#[derive(Debug)]
struct Eyes {
    scanner: Scanner,
    hints: Hints,
}

/// A stage of a work has begun.
type Progress = (Key, u64, LoadStage);

impl Keeper {
    /// Looks at the folders once and lists what is there.
    ///
    /// # Errors
    /// [`KeeperError`].
    pub fn open(
        loader: Arc<Loader>,
        index: Arc<ModelIndex>,
        options: KeeperOptions,
    ) -> Result<Self, KeeperError> {
        let plugins = loader.options.plugins.clone();
        let mut roots = vec![options.models.clone(), plugins.clone()];
        roots.extend(options.listed.iter().map(|entry| entry.path.clone()));
        let due = Arc::new(Notify::new());
        let hints = Hints::start(options.watch, roots, &due).map_err(KeeperError::Unwatchable)?;
        let mut scanner = Scanner::new(
            options.models.clone(),
            plugins,
            options.listed.clone(),
            Arc::clone(&options.decisions),
            options.quiet,
        )
        .with_default(options.on_demand);
        let scan = scanner.scan().map_err(KeeperError::Unreadable)?;
        loader.metrics.scanned(true);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let slots = |count| Arc::new(Semaphore::new(count));
        loader.metrics.memory().limit(options.memory);
        let now = Instant::now();
        let mut keeper = Self {
            loader,
            index,
            reconciler: Reconciler::new(options.quiet),
            options,
            due,
            eyes: Arc::new(Mutex::new(Eyes { scanner, hints })),
            generations: BTreeMap::new(),
            doors: BTreeMap::new(),
            bell: Arc::default(),
            without_room: VecDeque::new(),
            coming: BTreeMap::new(),
            draining: BTreeMap::new(),
            stages: BTreeMap::new(),
            asked: BTreeMap::new(),
            held_back: BTreeMap::new(),
            gone: Vec::new(),
            told: BTreeMap::new(),
            rollbacks: Rollbacks::default(),
            passed_over: BTreeMap::new(),
            is_starting: true,
            works: JoinSet::new(),
            // More than cores: one that hangs while it is validated costs a place until its time is over.
            slots: Slots { first: slots(2 + cores), again: slots(1), wakes: slots(cores) },
            work_count: 0,
            drains: JoinSet::new(),
            trim: Trim::default(),
            progress: mpsc::channel(STAGES),
            commands: KeeperHandle::new(),
            waiting: Vec::new(),
            started: now,
            last_scan: now,
            scan_took: Duration::ZERO,
            unreadable: None,
        };
        keeper.take_in(scan, now);
        Ok(keeper)
    }

    /// What tells this keeper to load and unload.
    pub fn handle(&self) -> KeeperHandle {
        self.commands.0.clone()
    }

    /// Loads, swaps and lets go, for as long as the process lives. `on_loaded` is told, once, when all that
    /// was there at the start is ready or has failed, and how many of each.
    pub async fn run(mut self, on_loaded: impl FnOnce(usize, usize)) {
        let (due, bell) = (Arc::clone(&self.due), Arc::clone(&self.bell));
        let given_up = Arc::clone(&self.loader.given_up);
        let mut on_loaded = Some(on_loaded);
        loop {
            self.answer_waiting();
            let patient = self.started.elapsed() < STARTUP_PATIENCE;
            if self.reconciler.waited_for(patient) == 0
                && let Some(on_loaded) = on_loaded.take()
            {
                let failed = self.told.values().filter(|(state, _)| *state == "failed").count();
                self.index.started();
                self.is_starting = false;
                on_loaded(self.generations.len() + self.doors.len(), failed);
            }
            let (next, tend) = (self.next_scan(), self.next_tend());
            // Nothing else need come until then.
            let impatient = (patient && on_loaded.is_some()).then(|| self.started + STARTUP_PATIENCE);
            tokio::select! {
                // Loads catch their own panics.
                Some(Ok(done)) = self.works.join_next() => self.finish(done),
                Some(freed) = self.drains.join_next() => self.note_freed(freed.ok()),
                Some(progress) = self.progress.1.recv() => self.note_stage(progress),
                () = sleep_until(self.trim.at()) => self.trim.start(),
                () = bell.notified() => self.answer_bell(),
                () = sleep_until(tend) => self.tend(),
                () = sleep_until(impatient) => {}
                Some(command) = self.commands.1.recv() => self.obey_all(command).await,
                () = given_up.notified() => self.roll_back(),
                () = due.notified() => {
                    tokio::time::sleep(BURST.max(self.scan_took)).await;
                    self.look().await;
                }
                () = tokio::time::sleep_until(next.into()) => self.look().await,
            }
        }
    }

    fn next_scan(&self) -> Instant {
        let regular = self.last_scan + self.options.rescan;
        if self.unreadable.is_some() {
            // No event tells of a folder that comes back, and looking for it costs next to nothing.
            return regular.min(self.last_scan + MISSING);
        }
        // Never in a closer row than a scan takes.
        let earliest = self.last_scan + self.scan_took.max(Duration::from_millis(1));
        self.reconciler.next_wake().map_or(regular, |wake| wake.max(earliest).min(regular))
    }

    async fn look(&mut self) {
        let (eyes, began) = (Arc::clone(&self.eyes), Instant::now());
        let looking = tokio::task::spawn_blocking(move || {
            let mut eyes = eyes.lock().unwrap_or_else(PoisonError::into_inner);
            eyes.hints.refresh();
            eyes.scanner.scan()
        });
        let scanned = looking.await.unwrap_or_else(|error| Err(format!("the scan itself failed: {error}")));
        self.last_scan = Instant::now();
        self.scan_took = self.last_scan - began;
        self.loader.metrics.scanned(scanned.is_ok());
        match scanned {
            Ok(mut scan) => {
                scan.took = self.scan_took;
                if self.unreadable.take().is_some() {
                    tracing::info!("the models folder can be read again");
                }
                self.take_in(scan, began);
            }
            Err(reason) => {
                if self.unreadable.is_none() {
                    tracing::error!(%reason, "the models folder cannot be read: everything serves on as it is");
                }
                self.unreadable = Some(reason);
            }
        }
    }

    /// `now` is when the scan began: what it saw is at least that new.
    fn take_in(&mut self, scan: Scan, now: Instant) {
        for (path, reason) in &scan.passed_over {
            if !self.passed_over.contains_key(path) {
                tracing::warn!(path = %path.display(), "passed over: {reason}");
            }
        }
        self.forget_gone(now);
        self.ask_for_traffic(&scan);
        self.rollbacks.observe(&scan);
        let works = self.reconciler.observe(now, &scan);
        self.passed_over = scan.passed_over;
        self.end_rollbacks();
        self.start(works);
        self.renew_doors();
        self.settle_traffic();
        self.show_changes();
        self.settle_traffic();
    }

    /// Carries out all commands that have come, with one look at the folders for those that need one.
    async fn obey_all(&mut self, first: Command) {
        let mut next = Some(first);
        let mut has_to_look = false;
        while let Some(command) = next {
            let now = Instant::now();
            match command {
                Command::Load(model, answer) => {
                    self.reconciler.call(&model, now);
                    self.waiting.push((model, answer));
                    has_to_look = true;
                }
                Command::Refresh(model, answer) => {
                    self.reconciler.ask(&model, now);
                    self.waiting.push((model, answer));
                    has_to_look = true;
                }
                Command::Unload(model, answer) => {
                    if !self.reconciler.knows(&model) {
                        self.look().await;
                    }
                    let is_there = self.reconciler.hold(&model, now);
                    self.show_changes();
                    let answered = is_there.then_some(()).ok_or_else(|| {
                        format!("there is no model '{model}' in the models folder, and none to unload")
                    });
                    // Whoever asked may have gone; it is done all the same.
                    let _gone = answer.send(answered);
                }
            }
            next = self.commands.1.try_recv().ok();
        }
        if has_to_look {
            self.look().await;
        }
    }

    /// Answers those who wait for a model that has come to an end.
    fn answer_waiting(&mut self) {
        for (model, answer) in std::mem::take(&mut self.waiting) {
            let ended = match &self.unreadable {
                Some(reason) => Some(Err(reason.clone())),
                None => self.reconciler.answer(&model),
            };
            match ended {
                Some(ended) => drop(answer.send(ended)),
                None => self.waiting.push((model, answer)),
            }
        }
    }
}

/// Ends when it is time; never without one.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
