//! Workers that come and go while a generation serves.
//!
//! Owns the doing of what `scale` decides: a session is opened on a thread of its own, never on a worker's,
//! and each step is logged with its reason and counted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::examine;
use super::scale::{Scale, Step, WorkerRange};
use super::worker::Shared;
use crate::isolation::{Executor, OpenError};

/// Opens one more session of a model. It holds the model's bytes, once for all sessions.
#[derive(Clone)]
pub struct SessionOpener(Arc<dyn Fn() -> Result<Executor, OpenError> + Send + Sync>);

impl SessionOpener {
    /// One that calls `open`, on a thread that may block.
    pub fn new(open: impl Fn() -> Result<Executor, OpenError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(open))
    }

    /// Opens one. Takes up to seconds.
    ///
    /// # Errors
    /// The reason, for the operator.
    pub fn open(&self) -> Result<Executor, OpenError> {
        (self.0)()
    }
}

impl std::fmt::Debug for SessionOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionOpener")
    }
}

/// What a generation needs to change its workers.
#[derive(Debug)]
pub(super) struct Scaling {
    state: Mutex<(Scale, WorkerRange)>,
    /// Whether there is anything to decide: looked at for each batch.
    active: AtomicBool,
    opener: OnceLock<SessionOpener>,
    /// More runs at a time than this there cannot be.
    at_a_time: usize,
}

impl Scaling {
    pub(super) fn new(range: WorkerRange, opener: Option<SessionOpener>, budget: &Budget) -> Self {
        let scaling = Self {
            state: Mutex::new((Scale::new(Instant::now()), range.clone())),
            active: AtomicBool::new(false),
            opener: opener.map_or_else(OnceLock::new, OnceLock::from),
            at_a_time: budget.at_a_time(),
        };
        scaling.set(range);
        scaling
    }

    fn state(&self) -> MutexGuard<'_, (Scale, WorkerRange)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn can_open(&self) -> bool {
        self.opener.get().is_some()
    }

    /// A worker without a core to run on is but memory.
    fn set(&self, mut range: WorkerRange) -> WorkerRange {
        range.max = range.max.min(self.at_a_time).max(range.min);
        self.active.store(range.max > range.min && self.can_open(), Relaxed);
        self.state().1 = range.clone();
        range
    }
}

impl Shared {
    /// When a worker that has nothing to do should look whether it is needed.
    pub(super) fn look_due(&self) -> Option<Instant> {
        if !self.scaling.active.load(Relaxed) {
            return None;
        }
        let state = self.scaling.state();
        state.0.due(self.workers.load(Relaxed), &state.1)
    }

    /// Looks at a request that has just been queued: workers that are all busy see nothing.
    pub(super) fn look_at_queue(self: &Arc<Self>) {
        if !self.scaling.active.load(Relaxed) {
            return;
        }
        let waited = self.queue.front_arrived().map_or(Duration::ZERO, |arrived| arrived.elapsed());
        // Short waits say little here: the queue may have been emptied a moment ago.
        if waited > self.scaling.state().1.wait {
            self.look(waited);
        }
    }

    /// Looks at how things stand when a request is served that has waited so long.
    pub(super) fn look(self: &Arc<Self>, waited: Duration) {
        if !self.scaling.active.load(Relaxed) {
            return;
        }
        let step = {
            let (scale, range) = &mut *self.scaling.state();
            let workers = (self.workers.load(Relaxed), self.busy.load(Relaxed));
            scale.look(Instant::now(), waited, workers, range)
        };
        match step {
            None => {}
            Some(Step::Out(waited)) => {
                let waited_ms = waited.as_secs_f64() * 1e3;
                tracing::info!(
                    model = self.model,
                    waited_ms,
                    "requests wait too long: opening another worker"
                );
                self.open_workers(1);
            }
            Some(Step::In(peak)) => self.end_one(peak),
        }
    }

    /// Puts other bounds into effect. `opener` opens workers if nothing has done so before. False if there
    /// would have to be more workers and nothing can open them.
    pub(super) fn scale_within(self: &Arc<Self>, range: WorkerRange, opener: Option<SessionOpener>) -> bool {
        if let Some(opener) = opener {
            // A model's sessions are the same whichever of them opens them.
            self.scaling.opener.get_or_init(|| opener);
        }
        let range = self.scaling.set(range);
        while self.retire_worker(range.max) {
            self.metrics.ended.inc();
        }
        let missing = range.min.saturating_sub(self.workers.load(Relaxed));
        if missing > 0 && self.scaling.can_open() {
            self.open_workers(missing);
        }
        self.scaling.can_open() || (missing == 0 && range.max == range.min)
    }

    fn end_one(&self, peak: usize) {
        let (least, idle) = {
            let state = self.scaling.state();
            (state.1.min, state.1.idle)
        };
        if self.retire_worker(least) {
            self.metrics.ended.inc();
            let (workers, idle_s) = (self.workers.load(Relaxed), idle.as_secs_f64());
            tracing::info!(
                model = self.model,
                workers,
                needed = peak,
                idle_s,
                "a worker was not needed for a while: it ends"
            );
        }
    }

    /// Opens workers one after the other, on a thread of its own.
    fn open_workers(self: &Arc<Self>, count: usize) {
        let Some(opener) = self.scaling.opener.get().cloned() else {
            return;
        };
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new().name("open-worker".to_owned()).spawn(move || {
            let opened = (0..count).all(|_| shared.open_one(&opener));
            shared.scaling.state().0.opened(Instant::now(), opened);
        });
        match thread {
            Ok(thread) => self.keep(thread),
            Err(error) => {
                tracing::warn!(model = self.model, %error, "another worker cannot be opened");
                self.scaling.state().0.opened(Instant::now(), false);
            }
        }
    }

    /// One more session, ready for requests.
    pub(super) fn open_session(&self) -> Result<Executor, OpenError> {
        let opener = self.scaling.opener.get().cloned();
        self.open_warm(&opener.ok_or_else(|| "there is nothing to open another one with".to_owned())?)
    }

    fn open_warm(&self, opener: &SessionOpener) -> Result<Executor, OpenError> {
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let mut session = opener.open()?;
            examine::warm(&mut session, self.batch_limit());
            Ok::<_, OpenError>(session)
        }));
        let session = opened.unwrap_or_else(|_| Err("opening it panicked".to_owned().into()))?;
        match session.lost() {
            Some(loss) => Err(OpenError {
                reason: format!("its {loss} while it ran the model for the first time"),
                kind: Some(loss.kind),
            }),
            None => Ok(session),
        }
    }

    /// True if there is one more worker now.
    fn open_one(self: &Arc<Self>, opener: &SessionOpener) -> bool {
        let began = Instant::now();
        let opened = self.open_warm(opener);
        let started =
            opened.and_then(|session| self.start_worker(session).map_err(|error| error.to_string().into()));
        let reason = match started {
            Ok(()) => {
                self.metrics.added.inc();
                let (workers, took_ms) = (self.workers.load(Relaxed), began.elapsed().as_secs_f64() * 1e3);
                tracing::info!(model = self.model, workers, took_ms, "another worker serves");
                return true;
            }
            Err(error) => error.reason,
        };
        tracing::warn!(model = self.model, reason, "another worker cannot be opened");
        false
    }
}
