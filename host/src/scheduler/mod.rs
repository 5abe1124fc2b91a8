//! From requests to sessions: a bounded queue for each generation, and the workers that take batches out of it.
//!
//! Owns who waits, for how long, who runs together, and which thread runs a model. It never knows a
//! protocol or a plugin.
//!
//! A request's way: [`Scheduler::infer`] makes a `job` with a `ticket` and pushes it into the `queue`; a free
//! `worker` takes what may run together, at most what `limits` and what was `examine`d allow; `run` runs it
//! and gives everybody their part. Before it runs it waits for a core, which the models of a host share
//! (`budget`). Workers come and go with how long requests wait (`scale`, `workers`); one whose process dies is
//! replaced (`crashes`, `replace`).
//!
//! Invariants: no model can starve another; a full queue answers at once; nobody waits without a deadline; what nobody waits for any more
//! is dropped before it costs compute, or ended; a request gets its own answer, once, the same as it would
//! get alone.

mod budget;
mod crashes;
#[cfg(test)]
mod death_tests;
mod examine;
mod job;
mod limits;
mod pieces;
mod queue;
mod replace;
mod run;
mod samples;
mod scale;
#[expect(clippy::module_inception, reason = "it is what the folder is about")]
mod scheduler;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod ticket;
mod worker;
mod workers;

pub use budget::Budget;
pub use job::InferOutcome;
pub use limits::{BatchLimits, Oversize, SchedulerLimits};
pub use scale::WorkerRange;
pub use scheduler::{Scheduler, SchedulerOptions, Terms};
pub use workers::SessionOpener;
