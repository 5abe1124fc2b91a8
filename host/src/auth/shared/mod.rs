//! What nodes share through Redis: API keys with their revocations, and what callers have used of their limits.
//!
//! Owns the form of both in Redis, and the tasks that bring this node and Redis together. No request waits for either:
//! requests ask what is in memory, and these tasks change that. Redis away means that keys stay as they were last known,
//! and that each node counts for itself.

mod follow;
mod keys;
mod record;
mod usage;

pub use follow::{follow_api_keys, note_shared_use};
pub use keys::SharedKeys;
pub use usage::share_limits;

/// A word that nobody else has: 16 hexadecimal digits.
fn random_word() -> std::io::Result<String> {
    use std::io::Read as _;
    let mut random = [0_u8; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(crate::config::hex(&random))
}
