//! From requests to sessions: a bounded queue for each generation, and the workers that pull from it.
//!
//! Owns who waits, for how long, and which thread runs a model. It never knows a protocol or a plugin.
//!
//! Invariants: a full queue answers at once; nobody waits without a deadline; what nobody waits for
//! any more is dropped before it costs compute.

mod queue;
mod ticket;
mod worker;

pub use worker::{InferOutcome, QueueLimits, Scheduler};
