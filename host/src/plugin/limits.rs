//! What one plugin may use.
//!
//! Owns the numbers and the accounting of linear memory. It never decides what happens to a plugin
//! that runs into a limit: that is `trap`'s.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmtime::ResourceLimiter;

/// The limits that hold for each plugin, and for each call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginLimits {
    /// CPU time of one call, host functions included.
    pub time: Duration,
    /// Bytes of linear memory of one instance, all of its memories together.
    pub memory: usize,
    /// Bytes that one call may return, and that it may pass to one host function.
    pub output: usize,
    /// Bytes of log lines, standard output and standard error of one call.
    pub log: usize,
    /// Bytes of the component itself.
    pub component_size: usize,
    /// Instances of one plugin that may exist at once.
    pub instances: usize,
    /// Calls after which an instance is retired.
    pub calls_per_instance: u64,
    /// How long an instance may lie unused before it is dropped.
    pub idle: Duration,
    /// Pixels of one picture that the `image` capability decodes.
    pub pixels: u32,
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self {
            time: Duration::from_millis(500),
            memory: 256 << 20,
            output: 64 << 20,
            log: 64 << 10,
            component_size: 64 << 20,
            instances: 4,
            calls_per_instance: 10_000,
            idle: Duration::from_secs(60),
            pixels: 1 << 26,
        }
    }
}

/// Counts the linear memory of one instance and refuses growth past its limit.
#[derive(Debug)]
pub(super) struct MemoryLimiter {
    limit: usize,
    used: usize,
    refused: Option<usize>,
    table_elements: usize,
}

/// Elements that all tables of one instance may hold together: enough for the largest interpreters seen.
pub(super) const TABLE_ELEMENTS: usize = 100_000;
/// Core instances, memories and tables, each, that one instance of a plugin may have.
const PARTS: usize = 64;

impl MemoryLimiter {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: 0, refused: None, table_elements: 0 }
    }

    /// The total that growth was last refused at, since the last time this was asked.
    pub(super) fn take_refused(&mut self) -> Option<usize> {
        self.refused.take()
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.used.saturating_add(desired.saturating_sub(current));
        if total > self.limit {
            self.refused = Some(total);
            return Ok(false);
        }
        self.used = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        if total > TABLE_ELEMENTS {
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        PARTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_count_together_and_a_refusal_is_remembered_once() {
        let mut limiter = MemoryLimiter::new(1000);
        assert!(limiter.memory_growing(0, 600, None).unwrap());
        assert!(!limiter.memory_growing(0, 600, None).unwrap());
        assert_eq!(limiter.used, 600);
        assert_eq!(limiter.take_refused(), Some(1200));
        assert_eq!(limiter.take_refused(), None);
        assert!(limiter.memory_growing(600, 1000, None).unwrap());
    }
}
