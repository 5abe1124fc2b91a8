//! Whether a generation is in use, and when it was last.
//!
//! Owns two atomics that every request touches, so that nobody has to take a lock to find out which versions lie
//! idle.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub struct Usage {
    born: Instant,
    /// Microseconds from `born` to the end of the last use.
    last: AtomicU64,
    in_use: AtomicUsize,
}

impl Default for Usage {
    /// As if it had been used just now.
    fn default() -> Self {
        Self { born: Instant::now(), last: AtomicU64::new(0), in_use: AtomicUsize::new(0) }
    }
}

impl Usage {
    /// It is in use until the guard is dropped.
    pub fn enter(&self) -> InUse<'_> {
        self.in_use.fetch_add(1, Relaxed);
        InUse(self)
    }

    /// How many use it now.
    pub fn in_use(&self) -> usize {
        self.in_use.load(Relaxed)
    }

    /// When the last use ended, or when it came to be.
    pub fn last_used(&self) -> Instant {
        self.born + Duration::from_micros(self.last.load(Relaxed))
    }
}

/// One use.
#[derive(Debug)]
pub struct InUse<'a>(&'a Usage);

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.born.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.0.last.fetch_max(now, Relaxed);
        self.0.in_use.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_counted_and_the_last_one_is_known() {
        let usage = Usage::default();
        let (born, first) = (usage.last_used(), usage.enter());
        drop(usage.enter());
        assert_eq!(usage.in_use(), 1);
        assert!(usage.last_used() >= born);
        std::thread::sleep(Duration::from_millis(2));
        let before = usage.last_used();
        drop(first);
        assert_eq!(usage.in_use(), 0);
        assert!(usage.last_used() > before);
    }
}
