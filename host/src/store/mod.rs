//! The one way to the Redis that nodes share.
//!
//! Owns connections: how they are made (`dial.rs`), when one is given up and tried again (`breaker.rs`, `link.rs`),
//! messages (`messages.rs`), and that nobody waits longer than `cache.redis.timeout`. Whoever asks gets an answer or
//! a [`StoreError`] and goes on without: no failure of Redis is a failure of a request. It never knows what is kept
//! in Redis; that is of those who ask.

mod aside;
mod breaker;
mod dial;
mod error;
mod link;
mod messages;
#[expect(clippy::module_inception, reason = "the module's one type has its name")]
mod store;
mod values;
mod words;

#[cfg(test)]
mod tests;

pub use error::StoreError;
pub use messages::{Event, Subscription};
pub use store::Store;
pub use values::FIRST_PART;
