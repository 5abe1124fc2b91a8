//! One request on its way through the queue.
//!
//! Owns what a worker has to know of it, and whether two may share a run.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::queue::Waiting;
use super::ticket::{Asker, Ticket};
use crate::error::Error;
use crate::isolation::{Loss, LossKind};
use crate::model::tensor::Tensor;

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

/// Of so much suspicion, a request is to blame.
const BLAME: u32 = 6;

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
    /// When its asker's time is over.
    deadline: Instant,
    /// How much it is suspected of ending workers.
    suspicion: u32,
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
        (expires, deadline): (Instant, Instant),
    ) -> (Self, Asker, Answer) {
        let (ticket, asker) = Ticket::new();
        let (answer, answered) = oneshot::channel();
        let items = items_of(&inputs).unwrap_or(0);
        let suspicion = 0;
        let job =
            Self { inputs, wanted, items, level, arrived, expires, deadline, suspicion, ticket, answer };
        (job, asker, answered)
    }

    /// It was in a run that its worker did not survive. It runs once more, by itself, unless it is to blame; then
    /// it is answered. Nothing is returned if that is all.
    pub(super) fn survive(mut self, loss: &Loss, started: Instant) -> Option<Self> {
        self.suspicion += match loss.kind {
            // From outside: whoever was there.
            LossKind::Killed => 1,
            _ => BLAME / 2,
        };
        if self.suspicion >= BLAME {
            let message = format!("each worker that ran this request died; the last one: {}", loss.reason);
            self.answer(Err(Error::internal(message)), started);
            return None;
        }
        self.items = 0;
        self.wait_again()
    }

    /// It has had its turn in the queue, and waits for another worker now, for as long as its asker does.
    pub(super) fn wait_again(mut self) -> Option<Self> {
        self.expires = self.deadline;
        self.ticket.wait_again().then_some(self)
    }

    /// Gives the asker its answer. It may have gone: that is its right.
    pub(super) fn answer(self, outputs: Result<Vec<Tensor>, Error>, started: Instant) {
        let queued = started.saturating_duration_since(self.arrived);
        let outcome = outputs.map(|outputs| InferOutcome { outputs, queued, compute: started.elapsed() });
        self.ticket.settle();
        let _gone = self.answer.send(outcome);
    }
}

/// The first dimension of all inputs, if they agree on one.
pub(super) fn items_of(inputs: &[Tensor]) -> Option<usize> {
    let first = *inputs.first()?.shape.first()?;
    inputs.iter().all(|tensor| tensor.shape.first() == Some(&first)).then_some(first)
}

/// Elements of one item of all inputs together.
pub(super) fn elements_of_item(inputs: &[Tensor]) -> usize {
    let of_one =
        |tensor: &Tensor| tensor.shape.iter().skip(1).fold(1, |all: usize, &size| all.saturating_mul(size));
    inputs.iter().map(of_one).fold(0, usize::saturating_add)
}

impl Waiting for Job {
    fn is_wanted(&self) -> bool {
        self.ticket.is_wanted()
    }

    fn items(&self) -> usize {
        self.items
    }

    fn elements_of_item(&self) -> usize {
        elements_of_item(&self.inputs)
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
