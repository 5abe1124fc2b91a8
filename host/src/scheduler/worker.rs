//! The worker threads of one generation.
//!
//! Owns the sessions, one for each thread, and the way of a request from the queue to an answer.
//! Stopping or dropping the scheduler closes the queue; each worker ends after what still waits, and drops
//! its session on its own thread. Limits and workers may change while it serves.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::queue::{PushError, Queue};
use super::ticket::Ticket;
use crate::error::{Error, ErrorCode};
use crate::model::ModelSession;
use crate::model::tensor::Tensor;

/// The bounds of a generation's queue, which may change while it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Requests that may wait.
    pub size: usize,
    /// How long a request may wait before a worker starts it.
    pub timeout: Duration,
}

/// The answer to one request, with where its time went.
#[derive(Debug)]
pub struct InferOutcome {
    /// The outputs asked for, in that order.
    pub outputs: Vec<Tensor>,
    /// From arriving to being started.
    pub queued: Duration,
    /// From being started to being answered.
    pub compute: Duration,
}

struct Job {
    inputs: Vec<Tensor>,
    wanted: Vec<usize>,
    ticket: Ticket,
    arrived: Instant,
    answer: oneshot::Sender<Result<InferOutcome, Error>>,
}

/// A generation's queue and workers.
#[derive(Debug)]
pub struct Scheduler {
    queue: Arc<Queue<Job>>,
    model: String,
    limits: ArcSwap<QueueLimits>,
    workers: Mutex<Workers>,
    busy: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Workers {
    /// Those that have not been sent away.
    count: usize,
    /// How many there ever were: each one's name has a number of its own.
    started: usize,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("arrived", &self.arrived).finish_non_exhaustive()
    }
}

impl Scheduler {
    /// Starts one worker thread for each session. `model` is for thread names and errors.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(model: String, sessions: Vec<ModelSession>, limits: QueueLimits) -> std::io::Result<Self> {
        let scheduler = Self {
            queue: Arc::new(Queue::new(limits.size)),
            model,
            limits: ArcSwap::from_pointee(limits),
            workers: Mutex::default(),
            busy: Arc::default(),
        };
        sessions.into_iter().try_for_each(|session| scheduler.add_worker(session))?;
        Ok(scheduler)
    }

    /// Changes the limits. A request that waits already keeps those that it came under.
    pub fn apply(&self, limits: QueueLimits) {
        self.queue.resize(limits.size);
        self.limits.store(Arc::new(limits));
    }

    /// Starts one more worker.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn add_worker(&self, session: ModelSession) -> std::io::Result<()> {
        let mut workers = self.lock_workers();
        let (queue, busy) = (Arc::clone(&self.queue), Arc::clone(&self.busy));
        // Linux cuts thread names at 15 bytes: the number goes first.
        let name = format!("w{}-{}", workers.started, self.model);
        let thread = std::thread::Builder::new().name(name).spawn(move || work(session, &queue, &busy))?;
        workers.threads.retain(|thread| !thread.is_finished());
        workers.threads.push(thread);
        (workers.count, workers.started) = (workers.count + 1, workers.started + 1);
        Ok(())
    }

    /// Sends one worker away: one ends, with its session, after the request that it runs. The last one stays.
    pub fn remove_worker(&self) {
        let mut workers = self.lock_workers();
        if workers.count > 1 {
            workers.count -= 1;
            self.queue.dismiss_one();
        }
    }

    /// Answers what waits, ends all workers and waits until their sessions are freed. Takes as long as what
    /// they run: call it on a blocking thread.
    pub fn stop(self) {
        self.queue.close();
        for thread in std::mem::take(&mut self.lock_workers().threads) {
            // A worker catches its panics.
            let _ended = thread.join();
        }
    }

    fn lock_workers(&self) -> std::sync::MutexGuard<'_, Workers> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Worker threads, and how many of them run a model now.
    pub fn workers(&self) -> (usize, usize) {
        (self.lock_workers().count, self.busy.load(Relaxed))
    }

    /// Requests that wait now.
    pub fn waiting(&self) -> usize {
        self.queue.count(is_wanted)
    }

    /// Queues one request and waits for its answer. The inputs are in the model's order and fit it.
    /// Dropped before a worker started it, the request costs no compute.
    ///
    /// # Errors
    /// `ResourceExhausted` at once if the queue is full, `Unavailable` if no worker became free within
    /// the queue's timeout, `DeadlineExceeded`, or how the model failed.
    pub async fn infer(
        &self,
        inputs: Vec<Tensor>,
        wanted: Vec<usize>,
        deadline: Instant,
    ) -> Result<InferOutcome, Error> {
        let (ticket, asker) = Ticket::new();
        let (answer, mut answered) = oneshot::channel();
        let arrived = Instant::now();
        let job = Job { inputs, wanted, ticket, arrived, answer };
        let limits = **self.limits.load();
        self.queue.push(job, is_wanted).map_err(|error| self.refused(&error, limits))?;

        let queue_deadline = arrived + limits.timeout;
        let first = queue_deadline.min(deadline);
        if let Ok(outcome) = tokio::time::timeout_at(first.into(), &mut answered).await {
            return self.unwrap(outcome);
        }
        if asker.give_up() {
            return Err(if deadline <= queue_deadline {
                self.expired()
            } else {
                self.waited_too_long(limits)
            });
        }
        match tokio::time::timeout_at(deadline.into(), &mut answered).await {
            Ok(outcome) => self.unwrap(outcome),
            Err(_) => Err(self.expired()),
        }
    }

    fn unwrap(
        &self,
        outcome: Result<Result<InferOutcome, Error>, oneshot::error::RecvError>,
    ) -> Result<InferOutcome, Error> {
        outcome.unwrap_or_else(|_| {
            Err(Error::internal(format!("the worker of model '{}' ended without an answer", self.model)))
        })
    }

    fn refused(&self, error: &PushError, limits: QueueLimits) -> Error {
        let model = &self.model;
        match error {
            PushError::Full => Error::new(
                ErrorCode::ResourceExhausted,
                format!(
                    "Exceeds maximum queue size: {} requests wait for model '{model}' already (queue.size); \
                     try again later",
                    limits.size
                ),
            ),
            PushError::Closed => {
                Error::new(ErrorCode::Unavailable, format!("model '{model}' is being unloaded"))
            }
        }
    }

    fn waited_too_long(&self, limits: QueueLimits) -> Error {
        Error::new(
            ErrorCode::Unavailable,
            format!(
                "Request timeout expired: no worker of model '{}' became free within {} ms (queue.timeout)",
                self.model,
                limits.timeout.as_millis()
            ),
        )
    }

    fn expired(&self) -> Error {
        let model = &self.model;
        Error::new(ErrorCode::DeadlineExceeded, format!("the request's time ran out at model '{model}'"))
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn is_wanted(job: &Job) -> bool {
    job.ticket.is_wanted()
}

fn work(mut session: ModelSession, queue: &Queue<Job>, busy: &AtomicUsize) {
    while let Some(job) = queue.pull() {
        if !job.ticket.start() {
            continue;
        }
        let started = Instant::now();
        busy.fetch_add(1, Relaxed);
        // A panic in here is a bug; it must cost one request, not the worker.
        let run = catch_unwind(AssertUnwindSafe(|| session.run(&job.inputs, &job.wanted)));
        busy.fetch_sub(1, Relaxed);
        let outputs =
            run.unwrap_or_else(|_| Err(Error::internal("the worker panicked while it ran the model")));
        let outcome = outputs.map(|outputs| InferOutcome {
            outputs,
            queued: started.duration_since(job.arrived),
            compute: started.elapsed(),
        });
        // Nobody may be waiting any more: that is their right.
        let _gone = job.answer.send(outcome);
    }
}
