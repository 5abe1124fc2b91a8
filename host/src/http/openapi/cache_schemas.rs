//! The forms of what `/admin/cache` answers.

#![allow(dead_code, reason = "they are described, never made")]

use utoipa::ToSchema;

/// What is remembered, and how often that was of use.
#[derive(ToSchema)]
pub(crate) struct CacheStats {
    memory: CacheMemory,
    /// Null without cache.redis.
    redis: Option<CacheRedis>,
    models: Vec<ModelCache>,
}

#[derive(ToSchema)]
pub(crate) struct CacheMemory {
    entries: u64,
    /// Bytes, about.
    bytes: u64,
    /// `cache.memory`, in bytes.
    limit: u64,
}

#[derive(ToSchema)]
pub(crate) struct CacheRedis {
    up: bool,
    /// Why it is not, or null.
    reason: Option<String>,
    /// Keys in the database, of all kinds and namespaces.
    keys: Option<u64>,
    /// Bytes that the server uses, for everything.
    bytes: Option<u64>,
    /// Bytes that it may use; null for no limit.
    max_bytes: Option<u64>,
    /// Keys that it gave up for want of memory, since it runs.
    evicted: Option<u64>,
}

#[derive(ToSchema)]
pub(crate) struct ModelCache {
    model: String,
    /// Whether a version that serves has a `cache.ttl`.
    remembers: bool,
    memory: CacheLevelCounts,
    /// Null without cache.redis.
    redis: Option<CacheLevelCounts>,
}

/// Counts since the host runs.
#[derive(ToSchema)]
pub(crate) struct CacheLevelCounts {
    /// Answers there; null for Redis, which counts its keys as a whole.
    entries: Option<u64>,
    /// Bytes, about; null for Redis.
    bytes: Option<u64>,
    hits: u64,
    misses: u64,
    /// Requests that waited for the computation of another one.
    coalesced: u64,
    errors: u64,
}

/// What was forgotten.
#[derive(ToSchema)]
pub(crate) struct CachePurged {
    /// Null for all models.
    model: Option<String>,
    /// Answers that lay in this host's memory.
    purged: u64,
    /// Null without cache.redis.
    nodes: Option<CacheTold>,
}

#[derive(ToSchema)]
pub(crate) struct CacheTold {
    /// Whether the other nodes know of it.
    told: bool,
    /// Why they do not yet, or null.
    reason: Option<String>,
}
