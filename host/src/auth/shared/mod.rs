//! What nodes share through Redis: API keys with their revocations, and what callers have used of their limits.
//!
//! Owns the form of both in Redis, and the tasks that bring this node and Redis together. No request waits for either:
//! requests ask what is in memory, and these tasks change that. Redis away means that everything stays as it was last
//! known, and that each node counts for itself.

mod record;
