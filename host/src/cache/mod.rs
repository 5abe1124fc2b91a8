//! Answers remembered.
//!
//! `remote.rs` is the level that nodes share, in Redis; `epochs.rs` is what makes all that was remembered of a model
//! count for nothing at once.

mod epochs;
mod remote;

pub use epochs::Epochs;
pub use remote::{Lease, Purges, Remote, Usage};
