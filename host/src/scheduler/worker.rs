//! The worker threads of one generation.
//!
//! Owns the sessions, one for each thread, and the way of a request from the queue to an answer.
//! Dropping the scheduler closes the queue; each worker ends after what still waits, and drops its
//! session on its own thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::queue::{PushError, Queue};
use super::ticket::Ticket;
use crate::error::{Error, ErrorCode};
use crate::model::ModelSession;
use crate::model::tensor::Tensor;

/// The bounds of a generation's queue.
#[derive(Clone, Debug)]
pub struct SchedulerOptions {
    /// The model's name, for thread names and errors.
    pub model: String,
    /// Requests that may wait.
    pub queue_size: usize,
    /// How long a request may wait before a worker starts it.
    pub queue_timeout: Duration,
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
    options: SchedulerOptions,
    workers: usize,
    busy: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("arrived", &self.arrived).finish_non_exhaustive()
    }
}

impl Scheduler {
    /// Starts one worker thread for each session.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(sessions: Vec<ModelSession>, options: SchedulerOptions) -> std::io::Result<Self> {
        let scheduler = Self {
            queue: Arc::new(Queue::new(options.queue_size)),
            workers: sessions.len(),
            busy: Arc::default(),
            options,
        };
        for (index, session) in sessions.into_iter().enumerate() {
            let (queue, busy) = (Arc::clone(&scheduler.queue), Arc::clone(&scheduler.busy));
            // Linux cuts thread names at 15 bytes: the number goes first.
            let name = format!("w{index}-{}", scheduler.options.model);
            std::thread::Builder::new().name(name).spawn(move || work(session, &queue, &busy))?;
        }
        Ok(scheduler)
    }

    /// Worker threads, and how many of them run a model now.
    pub fn workers(&self) -> (usize, usize) {
        (self.workers, self.busy.load(Relaxed))
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
        self.queue.push(job, is_wanted).map_err(|error| self.refused(&error))?;

        let queue_deadline = arrived + self.options.queue_timeout;
        let first = queue_deadline.min(deadline);
        if let Ok(outcome) = tokio::time::timeout_at(first.into(), &mut answered).await {
            return self.unwrap(outcome);
        }
        if asker.give_up() {
            return Err(if deadline <= queue_deadline { self.expired() } else { self.waited_too_long() });
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
            Err(Error::internal(format!(
                "the worker of model '{}' ended without an answer",
                self.options.model
            )))
        })
    }

    fn refused(&self, error: &PushError) -> Error {
        let model = &self.options.model;
        match error {
            PushError::Full => Error::new(
                ErrorCode::ResourceExhausted,
                format!(
                    "Exceeds maximum queue size: {} requests wait for model '{model}' already (queue.size); \
                     try again later",
                    self.options.queue_size
                ),
            ),
            PushError::Closed => {
                Error::new(ErrorCode::Unavailable, format!("model '{model}' is being unloaded"))
            }
        }
    }

    fn waited_too_long(&self) -> Error {
        Error::new(
            ErrorCode::Unavailable,
            format!(
                "Request timeout expired: no worker of model '{}' became free within {} ms (queue.timeout)",
                self.options.model,
                self.options.queue_timeout.as_millis()
            ),
        )
    }

    fn expired(&self) -> Error {
        let model = &self.options.model;
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
