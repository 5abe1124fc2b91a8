//! A generation's queue and workers, as the pipeline sees them.
//!
//! Owns a request's time in here: what it may wait, what becomes of one that is too large, what it is told
//! when there is no room or no time. Dropping the scheduler closes the queue; each worker ends after what
//! still waits.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::budget::Budget;
use super::examine::{Verdict, examine};
use super::job::{Answer, InferOutcome, Job, elements_of_item, items_of};
use super::limits::{Oversize, SchedulerLimits, most_items};
use super::pieces;
use super::queue::PushError;
use super::scale::WorkerRange;
use super::ticket::Asker;
use super::worker::Shared;
use super::workers::SessionOpener;
use crate::error::{Error, ErrorCode};
use crate::haste::Haste;
use crate::isolation::Executor;
use crate::model::tensor::Tensor;
use crate::telemetry::{ComputeSeries, StatisticsCounter, StatisticsSnapshot};

/// What a scheduler is started with.
#[derive(Clone, Debug)]
pub struct SchedulerOptions {
    /// The model's name, for thread names and errors.
    pub model: String,
    /// The bounds of queue and batches.
    pub limits: SchedulerLimits,
    /// How far an answer in a batch may be from the one alone, relative to the output's largest number.
    pub tolerance: f64,
    /// Where it counts.
    pub metrics: Arc<ComputeSeries>,
    /// How many workers there may be, and when they come and go.
    pub workers: WorkerRange,
    /// What opens more workers than it starts with; without it there are those only.
    pub opener: Option<SessionOpener>,
    /// The cores, shared with the other models.
    pub budget: Arc<Budget>,
    /// How urgent it is that it starts.
    pub haste: Haste,
    /// Who is told when a generation is given up because its workers die again and again.
    pub on_given_up: Arc<Notify>,
}

/// Until when a request may take, and how urgent it is.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// When its time is over.
    pub deadline: Instant,
    /// The protocol's `priority`: 1 the first, 0 or `None` as any other.
    pub priority: Option<u64>,
}

impl From<Instant> for Terms {
    fn from(deadline: Instant) -> Self {
        Self { deadline, priority: None }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Scheduler(pub(super) Arc<Shared>);

impl Scheduler {
    /// Finds out what the model makes of batches, and starts one worker for each session. Takes up to a
    /// second: call it on a blocking thread.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(mut sessions: Vec<Executor>, options: SchedulerOptions) -> std::io::Result<Self> {
        let (haste, tolerance) = (options.haste, options.tolerance);
        let examined = sessions.first_mut().map(|session| haste.run(move || examine(session, tolerance)));
        let examined = examined.ok_or_else(|| std::io::Error::other("a model without a session"))?;
        let (model, asked) = (options.model.as_str(), options.limits.batching.max_size);
        let (best, why) = (examined.best, &examined.verdict);
        tracing::debug!(model, best, %why, "what the model makes of batches");
        if asked.is_some_and(|size| size.get() > 1) && matches!(why, Verdict::Never(_)) {
            tracing::warn!(model, reason = %why, "requests do not share runs, whatever batching.max_batch_size says");
        }
        options.metrics.statistics.set_items(!matches!(why, Verdict::Never(_)));
        let scheduler = Self(Shared::new(options, examined));
        for (index, mut session) in sessions.into_iter().enumerate() {
            // The first one has been examined.
            if index > 0 {
                haste.run(|| super::examine::warm(&mut session, scheduler.batch_limit()));
            }
            scheduler.add_worker(session)?;
        }
        Ok(scheduler)
    }

    /// Counts requests from now on: the host's own are over.
    pub fn begin_counting(&self) {
        self.0.metrics.statistics.begin();
    }

    /// What the protocol's statistics tell of this version.
    pub fn statistics(&self) -> StatisticsSnapshot {
        self.0.metrics.statistics.version().snapshot()
    }

    /// Where requests count that the scheduler does not see.
    pub fn counter(&self) -> &StatisticsCounter {
        &self.0.metrics.statistics
    }

    /// Worker threads, and how many of them run a model now.
    pub fn workers(&self) -> (usize, usize) {
        (self.0.workers.load(Relaxed), self.0.busy.load(Relaxed))
    }

    /// The processes that its workers have of their own.
    pub fn processes(&self) -> Vec<u32> {
        self.0.processes.ids()
    }

    /// Why nothing is run any more, if its workers died again and again.
    pub fn given_up(&self) -> Option<&str> {
        self.0.given_up.get().map(String::as_str)
    }

    /// Requests that wait now.
    pub fn waiting(&self) -> usize {
        self.0.queue.waiting().0
    }

    /// Items that a run may have; 1 if requests share none.
    pub fn batch_limit(&self) -> usize {
        self.0.batch_limit()
    }

    /// Puts other limits into effect, for what comes and for what waits.
    pub fn apply(&self, limits: SchedulerLimits) {
        self.0.apply(limits);
    }

    /// Starts one more worker, on a session of the same model.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn add_worker(&self, session: Executor) -> std::io::Result<()> {
        self.0.start_worker(session)
    }

    /// Ends one worker, once it has answered what it has begun. False for the last one, which stays.
    #[cfg(test)]
    pub(super) fn remove_worker(&self) -> bool {
        self.0.retire_worker(1)
    }

    /// Puts other bounds on its workers into effect: ends those that are too many, opens those that are too
    /// few, with `opener` if it was started without one. False if it has none.
    pub fn scale_within(&self, workers: WorkerRange, opener: Option<SessionOpener>) -> bool {
        self.0.scale_within(workers, opener)
    }

    /// Whether it can open workers by itself.
    pub fn can_open(&self) -> bool {
        self.0.scaling.can_open()
    }

    /// Answers what waits, ends all workers and waits until their sessions are freed. Takes as long as what
    /// they run: call it on a blocking thread.
    pub fn stop(self) {
        self.0.stop();
    }

    /// Queues one request and waits for its answer. The inputs are in the model's order and fit it.
    /// Dropped before a worker started it, the request costs no compute; dropped while it runs with no
    /// other, the run is ended.
    ///
    /// # Errors
    /// `ResourceExhausted` at once if the queue is full, `Unavailable` if no worker became free within
    /// the queue's timeout, `DeadlineExceeded`, `InvalidArgument` for one that is too large, or how the model
    /// failed.
    pub async fn infer(
        &self,
        inputs: Vec<Tensor>,
        wanted: Vec<usize>,
        terms: impl Into<Terms>,
    ) -> Result<InferOutcome, Error> {
        let asked = self.0.metrics.statistics.asked(items_of(&inputs).unwrap_or(1));
        let outcome = self.ask(inputs, wanted, terms.into()).await?;
        asked.answered(outcome.queued, &outcome.times);
        Ok(outcome)
    }

    async fn ask(
        &self,
        inputs: Vec<Tensor>,
        wanted: Vec<usize>,
        terms: Terms,
    ) -> Result<InferOutcome, Error> {
        let limits = self.0.limits();
        let limit = self.0.batch_limit();
        let max_size = most_items(limit, limits.batching.max_elements, elements_of_item(&inputs));
        let items = items_of(&inputs).filter(|&items| limit > 1 && items > max_size);
        match (items, limits.batching.oversize) {
            (Some(items), Oversize::Refuse) => Err(self.too_large(items, max_size)),
            (Some(items), Oversize::Split) => {
                // More pieces than may ever wait would be refused whenever they came.
                if items.div_ceil(max_size.max(1)) > limits.queue_size {
                    return Err(self.too_large(items, max_size.saturating_mul(limits.queue_size)));
                }
                let pieces = pieces::cut(&inputs, max_size)?;
                let waits = self.queue(pieces, &wanted, terms, &limits)?;
                let mut outcomes = Vec::with_capacity(waits.len());
                for waiting in waits {
                    outcomes.push(self.wait(waiting).await?);
                }
                pieces::join(outcomes)
            }
            _ => {
                let mut waits = self.queue(vec![inputs], &wanted, terms, &limits)?;
                let waiting = waits.pop().ok_or_else(|| Error::internal("a request was not queued"))?;
                self.wait(waiting).await
            }
        }
    }

    /// Queues all of `requests`, or none.
    fn queue(
        &self,
        requests: Vec<Vec<Tensor>>,
        wanted: &[usize],
        terms: Terms,
        limits: &SchedulerLimits,
    ) -> Result<Vec<Asking>, Error> {
        let (arrived, level) = (Instant::now(), limits.level(terms.priority));
        let queue_deadline = arrived + limits.queue_timeout;
        let (mut jobs, mut waits) = (Vec::with_capacity(requests.len()), Vec::with_capacity(requests.len()));
        for inputs in requests {
            let expires = queue_deadline.min(terms.deadline);
            let (job, asker, answer) =
                Job::new(inputs, wanted.to_vec(), level, arrived, (expires, terms.deadline));
            jobs.push(job);
            waits.push(Asking { asker, answer, arrived, queue_deadline, deadline: terms.deadline });
        }
        self.0.queue.push(jobs.into_iter()).map_err(|error| self.refused(&error))?;
        self.0.look_at_queue();
        Ok(waits)
    }

    async fn wait(&self, asking: Asking) -> Result<InferOutcome, Error> {
        let Asking { asker, mut answer, arrived, queue_deadline, deadline } = asking;
        let first = queue_deadline.min(deadline);
        match tokio::time::timeout_at(first.into(), &mut answer).await {
            Ok(Ok(outcome)) => return outcome,
            // A worker has found that the time is over, before this task did.
            Ok(Err(_)) if Instant::now() >= first => {}
            Ok(Err(_)) => return Err(self.unanswered()),
            Err(_) if asker.give_up() => {}
            Err(_) => {
                return match tokio::time::timeout_at(deadline.into(), &mut answer).await {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(_)) if Instant::now() >= deadline => Err(expired(&self.0.model)),
                    Ok(Err(_)) => Err(self.unanswered()),
                    Err(_) => Err(expired(&self.0.model)),
                };
            }
        }
        if deadline <= queue_deadline {
            return Err(expired(&self.0.model));
        }
        Err(self.waited_too_long(queue_deadline - arrived))
    }

    fn unanswered(&self) -> Error {
        Error::internal(format!("the worker of model '{}' ended without an answer", self.0.model))
    }

    fn refused(&self, error: &PushError) -> Error {
        let model = &self.0.model;
        match error {
            PushError::Full(size) => Error::new(
                ErrorCode::ResourceExhausted,
                format!(
                    "Exceeds maximum queue size: {size} requests wait for model '{model}' already (queue.size); \
                     try again later"
                ),
            ),
            PushError::Closed => self.0.unavailable(),
        }
    }

    fn too_large(&self, items: usize, most: usize) -> Error {
        Error::invalid(format!(
            "the request has {items} items, and model '{}' takes {most} of this size at most \
             (batching.max_batch_size, batching.max_batch_elements); send several requests",
            self.0.model
        ))
    }

    fn waited_too_long(&self, patience: Duration) -> Error {
        Error::new(
            ErrorCode::Unavailable,
            format!(
                "Request timeout expired: no worker of model '{}' became free within {} ms (queue.timeout)",
                self.0.model,
                patience.as_millis()
            ),
        )
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

/// One who waits.
struct Asking {
    asker: Asker,
    answer: Answer,
    arrived: Instant,
    queue_deadline: Instant,
    deadline: Instant,
}

fn expired(model: &str) -> Error {
    Error::new(ErrorCode::DeadlineExceeded, format!("the request's time ran out at model '{model}'"))
}
