//! A worker: a thread with a session of its own, which takes batches out of the queue.
//!
//! Owns what the workers of a generation share, and a worker's life. It drops its session on its own thread.
//! Which workers there are is decided in `scale` and done in `workers`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::budget::Member;
use super::crashes::Crashes;
use super::examine::{Examined, Verdict};
use super::job::Job;
use super::limits::{BatchLimits, BatchRules, SchedulerLimits};
use super::queue::{Queue, Signal, Waiting as _};
use super::replace::Processes;
use super::run;
use super::scheduler::SchedulerOptions;
use super::workers::Scaling;
use crate::isolation::Executor;
use crate::telemetry::ComputeSeries;

/// What the workers of a generation share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) model: String,
    pub(super) queue: Queue<Job>,
    pub(super) examined: Examined,
    /// The model's outputs turned out not to follow its batches.
    diverged: AtomicBool,
    limits: Mutex<Arc<SchedulerLimits>>,
    /// Threads that have a session.
    pub(super) workers: AtomicUsize,
    pub(super) busy: AtomicUsize,
    /// Numbers the threads.
    started: AtomicUsize,
    /// Workers, and what opens some, that may still run.
    threads: Mutex<Vec<JoinHandle<()>>>,
    pub(super) metrics: Arc<ComputeSeries>,
    /// The model's part of the cores.
    member: Member,
    pub(super) scaling: Scaling,
    pub(super) crashes: Crashes,
    /// The processes that workers have of their own.
    pub(super) processes: Processes,
    /// Why the generation was given up.
    pub(super) given_up: OnceLock<String>,
    /// Who is told of that.
    pub(super) on_given_up: Arc<Notify>,
}

/// How often at least a process is looked for while it has nothing to do.
const LOOK: Duration = Duration::from_secs(1);

impl Shared {
    pub(super) fn new(options: SchedulerOptions, examined: Examined) -> Arc<Self> {
        let rules =
            BatchRules { max_size: 1, max_elements: None, max_delay: Duration::ZERO, preferred: Vec::new() };
        let shared = Self {
            model: options.model,
            queue: Queue::new(options.limits.queue_size, rules),
            examined,
            diverged: AtomicBool::new(false),
            limits: Mutex::new(Arc::new(options.limits)),
            workers: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            started: AtomicUsize::new(0),
            threads: Mutex::default(),
            metrics: options.metrics,
            member: options.budget.member(),
            scaling: Scaling::new(options.workers, options.opener, &options.budget),
            crashes: Crashes::default(),
            processes: Processes::default(),
            given_up: OnceLock::new(),
            on_given_up: options.on_given_up,
        };
        shared.renew();
        Arc::new(shared)
    }

    fn limits_now(&self) -> MutexGuard<'_, Arc<SchedulerLimits>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limits(&self) -> Arc<SchedulerLimits> {
        Arc::clone(&self.limits_now())
    }

    /// Puts other limits into effect, for what comes and what waits.
    pub(super) fn apply(&self, limits: SchedulerLimits) {
        *self.limits_now() = Arc::new(limits);
        self.renew();
    }

    /// Items that a run may have.
    pub(super) fn batch_limit(&self) -> usize {
        if self.diverged.load(Relaxed) {
            return 1;
        }
        let limits = self.limits();
        match (&self.examined.verdict, limits.batching.max_size) {
            (Verdict::Proven, None) => self.examined.best,
            (Verdict::Proven | Verdict::Unknown(_), Some(size)) => size.get(),
            (Verdict::Never(_), _) | (Verdict::Unknown(_), None) => 1,
        }
    }

    fn renew(&self) {
        let (limits, max_size) = (self.limits(), self.batch_limit());
        self.metrics.limit.set(i64::try_from(max_size).unwrap_or(i64::MAX));
        let BatchLimits { max_elements, max_delay, preferred, .. } = limits.batching.clone();
        self.queue.set(limits.queue_size, BatchRules { max_size, max_elements, max_delay, preferred });
    }

    /// Starts a worker.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub(super) fn start_worker(self: &Arc<Self>, session: Executor) -> std::io::Result<()> {
        // Linux cuts thread names at 15 bytes: the number goes first.
        let name = format!("w{}-{}", self.started.fetch_add(1, Relaxed), self.model);
        let shared = Arc::clone(self);
        self.workers.fetch_add(1, Relaxed);
        let thread = std::thread::Builder::new().name(name).spawn(move || shared.work(session));
        let thread = thread.inspect_err(|_| {
            self.workers.fetch_sub(1, Relaxed);
        })?;
        self.keep(thread);
        Ok(())
    }

    /// Remembers a thread that is to be waited for.
    pub(super) fn keep(&self, thread: JoinHandle<()>) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
    }

    /// Answers what waits, and waits until all threads have ended.
    pub(super) fn stop(&self) {
        self.queue.close();
        // What opens workers may add to them meanwhile.
        while let Some(thread) = self.next_thread() {
            // A worker catches its panics.
            let _ended = thread.join();
        }
    }

    fn next_thread(&self) -> Option<JoinHandle<()>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Asks one worker to end; false if there are but `least` of them, or one.
    pub(super) fn retire_worker(&self, least: usize) -> bool {
        let fewer = |workers: usize| (workers > least.max(1)).then(|| workers - 1);
        let retires = self.workers.fetch_update(Relaxed, Relaxed, fewer).is_ok();
        if retires {
            self.queue.retire_one();
        }
        retires
    }

    /// A worker's life.
    fn work(self: &Arc<Self>, session: Executor) {
        let mut held = self.processes.hold(session, &self.metrics);
        loop {
            match self.queue.ready(self.patience(&held)) {
                Signal::Work => {}
                Signal::Idle => {
                    held.check();
                    self.look(Duration::ZERO);
                    match self.revive(held) {
                        Some(revived) => held = revived,
                        None => return,
                    }
                    continue;
                }
                Signal::Retire | Signal::Closed => return,
            }
            // What arrives while it waits for a core joins the batch.
            let permit = self.member.enter();
            let taken = self.queue.take();
            // Dropped unanswered: their askers know by themselves that the time is over.
            self.metrics.expired.inc_by(taken.expired.len() as u64);
            drop(taken.expired);
            let Some(waited) = taken.batch.iter().map(|job| job.arrived().elapsed()).max() else {
                continue;
            };
            self.busy.fetch_add(1, Relaxed);
            self.look(waited);
            let served = run::serve(&mut held, taken.batch, &self.metrics);
            self.busy.fetch_sub(1, Relaxed);
            drop(permit);
            if let Some(reason) = served.diverged {
                self.diverged.store(true, Relaxed);
                self.renew();
                tracing::warn!(model = self.model, %reason, "requests share no runs any more");
            }
            match self.after_run(held, served.unanswered) {
                Some(living) => held = living,
                None => return,
            }
        }
    }

    /// Until when a worker waits for something to do. A process is looked for while it has nothing.
    fn patience(&self, session: &Executor) -> Option<Instant> {
        let look = session.pid().map(|_| Instant::now() + LOOK);
        match (self.look_due(), look) {
            (Some(due), Some(look)) => Some(due.min(look)),
            (due, look) => due.or(look),
        }
    }
}
