//! The loop that keeps what is served equal to what the folders say.
//!
//! Owns when folders are looked at, how many versions load at once, what requests see of it, and the end of
//! generations that nobody uses any more. What is to be done is [`Reconciler`]'s to decide. Nothing in here
//! runs on a request's way, and no request waits for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use super::fingerprint::Fingerprint;
use super::hints::Hints;
use super::index::ModelIndex;
use super::load::Loader;
use super::reconcile::{Failure, Outcome, Reconciler, Standing};
use super::scan::{Candidate, Key, Scan, Scanner};
use super::status::{LoadFailure, VersionStatus};
use crate::config::{ModelEntry, Watch};
use crate::pipeline::Generation;

/// Events come in bursts: what else comes within this time is one hint.
const BURST: Duration = Duration::from_millis(50);
/// How long readiness waits at the start for versions whose files are not still.
const STARTUP_PATIENCE: Duration = Duration::from_secs(30);
/// How often a generation that was let go is asked whether a request still uses it.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// Where to look, and how often.
#[derive(Clone, Debug)]
pub struct KeeperOptions {
    /// The folder of `<model>/<version>/`.
    pub models: PathBuf,
    /// Models outside of it.
    pub listed: Vec<ModelEntry>,
    /// From one scan to the next, whatever events say.
    pub rescan: Duration,
    /// How long files must be still before they are loaded.
    pub quiet: Duration,
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
    loader: Arc<Loader>,
    index: Arc<ModelIndex>,
    rescan: Duration,
    due: Arc<Notify>,
    eyes: Arc<Mutex<Eyes>>,
    reconciler: Reconciler,
    generations: BTreeMap<Key, Arc<Generation>>,
    /// The state and reason that were last told of each version.
    told: BTreeMap<Key, (&'static str, String)>,
    passed_over: BTreeMap<PathBuf, &'static str>,
    loads: JoinSet<Loaded>,
    slots: Arc<Semaphore>,
    started: Instant,
    last_scan: Instant,
    scan_took: Duration,
    readable: bool,
}

#[derive(Debug)]
struct Eyes {
    scanner: Scanner,
    hints: Hints,
}

#[derive(Debug)]
struct Loaded {
    candidate: Arc<Candidate>,
    result: Result<Generation, String>,
    /// The files were the same after the load as before it.
    still: bool,
    took: Duration,
}

impl Keeper {
    /// Looks at the folders once and lists what is there as loading.
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
        let mut scanner = Scanner::new(options.models, plugins, options.listed, options.quiet);
        let scan = scanner.scan().map_err(KeeperError::Unreadable)?;
        loader.metrics.scanned(true);
        let at_once = std::thread::available_parallelism().map_or(1, usize::from);
        let now = Instant::now();
        let mut keeper = Self {
            loader,
            index,
            rescan: options.rescan,
            due,
            eyes: Arc::new(Mutex::new(Eyes { scanner, hints })),
            reconciler: Reconciler::new(options.quiet),
            generations: BTreeMap::new(),
            told: BTreeMap::new(),
            passed_over: BTreeMap::new(),
            loads: JoinSet::new(),
            slots: Arc::new(Semaphore::new(at_once)),
            started: now,
            last_scan: now,
            scan_took: Duration::ZERO,
            readable: true,
        };
        keeper.take_in(scan, now);
        Ok(keeper)
    }

    /// Loads, swaps and lets go, for as long as the process lives. `on_loaded` is told, once, when all that
    /// was there at the start is ready or has failed, and how many of each.
    pub async fn run(mut self, on_loaded: impl FnOnce(usize, usize)) {
        let due = Arc::clone(&self.due);
        let mut on_loaded = Some(on_loaded);
        loop {
            let patient = self.started.elapsed() < STARTUP_PATIENCE;
            if self.reconciler.waited_for(patient) == 0
                && let Some(on_loaded) = on_loaded.take()
            {
                let failed = self.told.values().filter(|(state, _)| *state == "failed").count();
                on_loaded(self.generations.len(), failed);
            }
            let next = self.next_scan();
            tokio::select! {
                Some(loaded) = self.loads.join_next() => {
                    // Loads catch their own panics.
                    if let Ok(loaded) = loaded {
                        self.finish(loaded);
                    }
                }
                () = due.notified() => {
                    tokio::time::sleep(BURST.max(self.scan_took)).await;
                    self.look().await;
                }
                () = tokio::time::sleep_until(next.into()) => self.look().await,
            }
        }
    }

    fn next_scan(&self) -> Instant {
        let regular = self.last_scan + self.rescan;
        if !self.readable {
            return regular;
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
            Ok(scan) => {
                if !std::mem::replace(&mut self.readable, true) {
                    tracing::info!("the models folder can be read again");
                }
                self.take_in(scan, began);
            }
            Err(reason) if std::mem::replace(&mut self.readable, false) => {
                tracing::error!(%reason, "the models folder cannot be read: everything serves on as it is");
            }
            Err(_) => {}
        }
    }

    /// `now` is when the scan began: what it saw is at least that new.
    fn take_in(&mut self, scan: Scan, now: Instant) {
        for (path, reason) in &scan.passed_over {
            if !self.passed_over.contains_key(path) {
                tracing::warn!(path = %path.display(), "passed over: {reason}");
            }
        }
        let loads = self.reconciler.observe(now, &scan);
        self.passed_over = scan.passed_over;
        self.start_loads(loads);
        self.show_changes();
    }

    fn start_loads(&mut self, candidates: Vec<Arc<Candidate>>) {
        for candidate in candidates {
            let (loader, slots) = (Arc::clone(&self.loader), Arc::clone(&self.slots));
            self.loads.spawn(async move {
                let _slot = slots.acquire_owned().await;
                let began = Instant::now();
                let wanted = Arc::clone(&candidate);
                let loading = tokio::task::spawn_blocking(move || {
                    let result = loader.load(&wanted.source);
                    let after = Fingerprint::read(&wanted.source, &loader.options.plugins);
                    (result, after == wanted.fingerprint)
                });
                let (result, still) = loading.await.unwrap_or_else(|error| {
                    let (model, version) = candidate.key();
                    tracing::error!(%model, %version, %error, "the loader itself failed");
                    (Err("the loader itself failed; see the host's log".to_owned()), true)
                });
                Loaded { candidate, result, still, took: began.elapsed() }
            });
        }
    }

    fn finish(&mut self, loaded: Loaded) {
        let Loaded { candidate, result, still, took } = loaded;
        let key = candidate.key();
        let (outcome, generation) = match result {
            _ if !still => (Outcome::Moved, result.ok()),
            Ok(generation) => (Outcome::Loaded, Some(generation)),
            Err(reason) => (Outcome::Failed(reason), None),
        };
        if outcome != Outcome::Moved {
            let word = if generation.is_some() { "ok" } else { "failed" };
            self.loader.metrics.swapped(&key.0, word);
        }
        let (publish, loads) = self.reconciler.finished(Instant::now(), &candidate, outcome);
        match generation {
            Some(generation) if publish => self.publish(key, generation, took),
            Some(generation) => drop_elsewhere(generation),
            None => {}
        }
        self.start_loads(loads);
        self.show_changes();
    }

    /// One pointer in the index: requests that come from now on get the new one.
    fn publish(&mut self, key: Key, generation: Generation, took: Duration) {
        let generation = Arc::new(generation);
        self.index.set(&key.0, &key.1, &VersionStatus::Ready(Arc::clone(&generation)));
        let before = self.generations.insert(key.clone(), generation);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let replaced = before.is_some();
        tracing::info!(model = key.0, version = key.1, took_ms, replaced, "the version is ready");
        self.told.insert(key, ("ready", String::new()));
        if let Some(before) = before {
            retire(before);
        }
    }

    fn show_changes(&mut self) {
        for (key, standing) in self.reconciler.changes() {
            let serves = matches!(standing, Standing::Ready | Standing::Outdated(_));
            let let_go = if serves { None } else { self.generations.remove(&key) };
            let had = let_go.is_some();
            self.show(&key, standing);
            if let Some(generation) = let_go {
                retire(generation);
            }
            if had {
                self.loader.metrics.unloaded(&key.0, &key.1);
                tracing::info!(model = key.0, version = key.1, "the version is no longer served");
            }
        }
    }

    fn show(&mut self, key: &Key, standing: Standing) {
        let (model, version) = (key.0.as_str(), key.1.as_str());
        let (states, status) = match (standing, self.generations.get(key)) {
            (Standing::Gone, _) => {
                self.index.remove(model, version);
                self.loader.metrics.states(model, version, &[]);
                self.told.remove(key);
                return;
            }
            (Standing::Failed(failure), _) => (["failed"].as_slice(), VersionStatus::Failed(dated(failure))),
            (Standing::Ready, Some(generation)) => {
                (["ready"].as_slice(), VersionStatus::Ready(Arc::clone(generation)))
            }
            (Standing::Outdated(failure), Some(generation)) => (
                ["ready", "outdated"].as_slice(),
                VersionStatus::Outdated(Arc::clone(generation), dated(failure)),
            ),
            (Standing::Loading | Standing::Ready | Standing::Outdated(_), _) => {
                (["loading"].as_slice(), VersionStatus::Loading)
            }
        };
        self.index.set(model, version, &status);
        self.loader.metrics.states(model, version, states);
        self.tell(key, &status);
    }

    /// One line for each transition; another try that ends as the one before is none.
    fn tell(&mut self, key: &Key, status: &VersionStatus) {
        let (model, version) = (key.0.as_str(), key.1.as_str());
        let reason = status.failure().map(|failure| failure.reason.clone()).unwrap_or_default();
        let news = (status.as_str(), reason);
        if self.told.get(key) == Some(&news) {
            return;
        }
        let reason = &news.1;
        match status {
            VersionStatus::Loading => tracing::info!(model, version, "the version is being loaded"),
            VersionStatus::Ready(_) => {
                tracing::info!(model, version, "the version's own content serves again")
            }
            VersionStatus::Failed(_) => {
                tracing::error!(model, version, %reason, "the version cannot be served");
            }
            VersionStatus::Outdated(..) => {
                tracing::error!(model, version, %reason, "new content cannot replace what serves");
            }
        }
        self.told.insert(key.clone(), news);
    }
}

/// The points in time of a failure by the wall clock.
fn dated(failure: Failure) -> LoadFailure {
    let (now, wall) = (Instant::now(), SystemTime::now());
    let since = now.saturating_duration_since(failure.since);
    LoadFailure {
        reason: failure.reason,
        since: wall.checked_sub(since).unwrap_or(wall),
        next_retry: failure.retry.map(|at| wall + at.saturating_duration_since(now)),
    }
}

/// Waits until no request uses a generation, then drops it on a blocking thread. That it is held here is
/// what keeps a request's own thread from dropping it.
fn retire(generation: Arc<Generation>) {
    // What it has counted since the metrics were last asked for.
    generation.observe();
    tokio::spawn(async move {
        let mut generation = generation;
        loop {
            match Arc::try_unwrap(generation) {
                Ok(last) => return drop_elsewhere(last),
                Err(shared) => generation = shared,
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
    });
}

/// Freeing a session and a plugin's memory takes its time.
fn drop_elsewhere(generation: Generation) {
    tokio::task::spawn_blocking(move || {
        let (model, version) = (generation.model().to_owned(), generation.version().to_owned());
        drop(generation);
        tracing::debug!(model, version, "a generation was freed");
    });
}
