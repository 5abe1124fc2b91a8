//! What several hosts agree on, by way of Redis.

mod record;
mod share;
