//! One request on its way through the queue.
//!
//! Owns what a worker has to know of it, and whether two may share a run.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::queue::Waiting;
use super::ticket::{Asker, Ticket};
use crate::error::Error;
use crate::model::tensor::Tensor;
use crate::telemetry::RunTimes;

/// The answer to one request, with where its time went.
#[derive(Debug)]
pub struct InferOutcome {
    /// The outputs asked for, in that order.
    pub outputs: Vec<Tensor>,
    /// From arriving to being started.
    pub queued: Duration,
    /// From being started to being answered.
    pub compute: Duration,
    /// Where the time of its runs went, shared by all that were in them.
    pub times: RunTimes,
}

pub(super) type Answer = oneshot::Receiver<Result<InferOutcome, Error>>;

/// See the module.
pub(super) struct Job {
    /// In the model's order, and fitting it.
    pub(super) inputs: Vec<Tensor>,
    /// Positions of the outputs asked for.
    pub(super) wanted: Vec<usize>,
    /// The inputs' common first dimension; 0 if it has to run by itself.
    items: usize,
    level: u32,
    arrived: Instant,
    expires: Instant,
    pub(super) ticket: Ticket,
    answer: oneshot::Sender<Result<InferOutcome, Error>>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("arrived", &self.arrived)
            .field("items", &self.items)
            .finish_non_exhaustive()
    }
}

impl Job {
    /// A request of priority `level` that arrives now and has to be started before `expires`.
    pub(super) fn new(
        inputs: Vec<Tensor>,
        wanted: Vec<usize>,
        level: u32,
        arrived: Instant,
        expires: Instant,
    ) -> (Self, Asker, Answer) {
        let (ticket, asker) = Ticket::new();
        let (answer, answered) = oneshot::channel();
        let items = items_of(&inputs).unwrap_or(0);
        (Self { inputs, wanted, items, level, arrived, expires, ticket, answer }, asker, answered)
    }

    /// Gives the asker its answer. It may have gone: that is its right.
    pub(super) fn answer(self, outputs: Result<Vec<Tensor>, Error>, started: Instant) {
        let queued = started.saturating_duration_since(self.arrived);
        let (compute, times) = (started.elapsed(), self.ticket.settle());
        let outcome = outputs.map(|outputs| InferOutcome { outputs, queued, compute, times });
        let _gone = self.answer.send(outcome);
    }
}

/// The first dimension of all inputs, if they agree on one.
pub(super) fn items_of(inputs: &[Tensor]) -> Option<usize> {
    let first = *inputs.first()?.shape.first()?;
    inputs.iter().all(|tensor| tensor.shape.first() == Some(&first)).then_some(first)
}

impl Waiting for Job {
    fn is_wanted(&self) -> bool {
        self.ticket.is_wanted()
    }

    fn items(&self) -> usize {
        self.items
    }

    fn joins(&self, other: &Self) -> bool {
        let alike = |(left, right): (&Tensor, &Tensor)| left.shape.get(1..) == right.shape.get(1..);
        self.items > 0 && other.items > 0 && self.inputs.iter().zip(&other.inputs).all(alike)
    }

    fn level(&self) -> u32 {
        self.level
    }

    fn arrived(&self) -> Instant {
        self.arrived
    }

    fn expires(&self) -> Instant {
        self.expires
    }
}
