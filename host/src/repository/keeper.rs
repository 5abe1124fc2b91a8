//! The loop that keeps what is served equal to what the folders say.
//!
//! Owns when folders are looked at, how many versions load at once, and which generations there are. What is
//! to be done is [`Reconciler`]'s to decide, what is told of it is in `announce.rs`. Nothing in here runs on a
//! request's way, and no request waits for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::commands::{Command, KeeperHandle, LoadAnswer};
use super::decisions::Decisions;
use super::drain::free;
use super::fingerprint::Fingerprint;
use super::hints::Hints;
use super::index::ModelIndex;
use super::load::{Loader, More};
use super::reconcile::{Outcome, Reconciler, Work};
use super::rollback::Rollbacks;
use super::scan::{Key, Scan, Scanner};
use super::status::{Draining, LoadStage};
use crate::config::{ModelConfig, ModelEntry, Watch};
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
    works: JoinSet<Done>,
    slots: Arc<Semaphore>,
    slot_of_retries: Arc<Semaphore>,
    work_count: u64,
    pub(super) drains: JoinSet<Key>,
    pub(super) trim: Trim,
    progress: (mpsc::Sender<Progress>, mpsc::Receiver<Progress>),
    commands: (KeeperHandle, mpsc::Receiver<Command>),
    waiting: Vec<(String, oneshot::Sender<LoadAnswer>)>,
    started: Instant,
    last_scan: Instant,
    scan_took: Duration,
    /// Why the models folder could not be read at the last look.
    unreadable: Option<String>,
}

#[derive(Debug)]
struct Eyes {
    scanner: Scanner,
    hints: Hints,
}

/// A stage of a work has begun.
type Progress = (Key, u64, LoadStage);

#[derive(Debug)]
enum Made {
    Generation(Box<Generation>),
    /// For workers that are to be added to what serves.
    Sessions(More),
}

#[derive(Debug)]
struct Done {
    work: Work,
    result: Result<Made, String>,
    /// The files were the same after the work as before it.
    still: bool,
    took: Duration,
}

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
        );
        let scan = scanner.scan().map_err(KeeperError::Unreadable)?;
        loader.metrics.scanned(true);
        // More than cores: one that hangs while it is validated costs a place until its time is over.
        let at_once = 2 + std::thread::available_parallelism().map_or(1, usize::from);
        let now = Instant::now();
        let mut keeper = Self {
            loader,
            index,
            reconciler: Reconciler::new(options.quiet),
            options,
            due,
            eyes: Arc::new(Mutex::new(Eyes { scanner, hints })),
            generations: BTreeMap::new(),
            draining: BTreeMap::new(),
            stages: BTreeMap::new(),
            asked: BTreeMap::new(),
            held_back: BTreeMap::new(),
            gone: Vec::new(),
            told: BTreeMap::new(),
            rollbacks: Rollbacks::default(),
            passed_over: BTreeMap::new(),
            works: JoinSet::new(),
            slots: Arc::new(Semaphore::new(at_once)),
            slot_of_retries: Arc::new(Semaphore::new(1)),
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
        let (due, given_up) = (Arc::clone(&self.due), Arc::clone(&self.loader.given_up));
        let mut on_loaded = Some(on_loaded);
        loop {
            self.answer_waiting();
            let patient = self.started.elapsed() < STARTUP_PATIENCE;
            if self.reconciler.waited_for(patient) == 0
                && let Some(on_loaded) = on_loaded.take()
            {
                let failed = self.told.values().filter(|(state, _)| *state == "failed").count();
                self.index.started();
                on_loaded(self.generations.len(), failed);
            }
            let next = self.next_scan();
            tokio::select! {
                // Loads catch their own panics.
                Some(Ok(done)) = self.works.join_next() => self.finish(done),
                Some(freed) = self.drains.join_next() => self.note_freed(freed.ok()),
                Some(progress) = self.progress.1.recv() => self.note_stage(progress),
                () = Trim::due(self.trim.at()) => self.trim.start(),
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
        self.settle_traffic();
        self.show_changes();
        self.settle_traffic();
    }

    /// Carries out all commands that have come, with one look at the folders for those that need one.
    async fn obey_all(&mut self, first: Command) {
        let mut next = Some(first);
        let mut rescans = Vec::new();
        let mut has_to_look = false;
        while let Some(command) = next {
            let now = Instant::now();
            match command {
                Command::Load(model, answer) => {
                    self.reconciler.unhold(&model);
                    self.reconciler.ask(&model, now);
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
                Command::Rescan(answer) => {
                    rescans.push(answer);
                    has_to_look = true;
                }
            }
            next = self.commands.1.try_recv().ok();
        }
        if has_to_look {
            self.look().await;
        }
        for answer in rescans {
            let _gone = answer.send(self.unreadable.clone().map_or(Ok(()), Err));
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

    pub(super) fn start(&mut self, works: Vec<Work>) {
        for work in works {
            self.work_count += 1;
            let (key, number) = (work.candidate.key(), self.work_count);
            self.stages.insert(key.clone(), (number, None));
            let serving = if work.apply { self.generations.get(&key).map(Arc::clone) } else { None };
            // What failed before must not keep others waiting: all of it has one place.
            let again = self.reconciler.has_failed(&work.candidate);
            let slots = Arc::clone(if again { &self.slot_of_retries } else { &self.slots });
            let loader = Arc::clone(&self.loader);
            let progress = self.progress.0.clone();
            self.works.spawn(async move {
                let _slot = slots.acquire_owned().await;
                let (began, wanted) = (Instant::now(), Arc::clone(&work.candidate));
                let working = tokio::task::spawn_blocking(move || {
                    let result = match serving {
                        Some(serving) => loader.open_more(&wanted.source, &serving).map(Made::Sessions),
                        None => {
                            let tell = |stage| {
                                // The keeper ends with the process only.
                                let _gone = progress.blocking_send((wanted.key(), number, stage));
                            };
                            let loaded = loader.load(&wanted.source, &tell);
                            loaded.map(|generation| Made::Generation(Box::new(generation)))
                        }
                    };
                    let after = Fingerprint::read(&wanted.source, &loader.options.plugins);
                    (result, after == wanted.fingerprint)
                });
                let (result, still) = working.await.unwrap_or_else(|error| {
                    let (model, version) = work.candidate.key();
                    tracing::error!(%model, %version, %error, "the loader itself failed");
                    (Err("the loader itself failed; see the host's log".to_owned()), true)
                });
                Done { work, result, still, took: began.elapsed() }
            });
        }
    }

    fn finish(&mut self, done: Done) {
        let Done { work, result, still, took } = done;
        let key = work.candidate.key();
        // What it has told of itself before it ended.
        while let Ok(progress) = self.progress.1.try_recv() {
            self.note_stage(progress);
        }
        self.stages.remove(&key);
        // A load leaves the bytes of its files behind, and more if it fails.
        self.trim.ask();
        let (outcome, made) = match result {
            _ if !still => (Outcome::Moved, result.ok()),
            Ok(made) => (Outcome::Loaded, Some(made)),
            Err(reason) => (Outcome::Failed(reason), None),
        };
        if outcome != Outcome::Moved && !work.apply {
            let word = if made.is_some() { "ok" } else { "failed" };
            self.loader.metrics.swapped(&key.0, word);
        }
        let (publish, works) = self.reconciler.finished(Instant::now(), &work, outcome);
        match made {
            Some(Made::Generation(generation)) if publish => self.publish(&key, *generation, took),
            Some(Made::Generation(generation)) => drop(tokio::spawn(free(*generation))),
            Some(Made::Sessions(more)) if publish => self.apply(&key, &work, more),
            Some(Made::Sessions(more)) => drop(tokio::task::spawn_blocking(move || drop(more))),
            None => {}
        }
        self.start(works);
        self.settle_traffic();
        self.show_changes();
        self.settle_traffic();
        self.show_again(&key);
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
