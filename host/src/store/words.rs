//! What the log says of Redis: one line when it goes, one when it comes back, and now and then what it refuses.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two lines about the same refusal.
const PAUSE: Duration = Duration::from_secs(60);
/// Kinds of refusals that are told apart.
const KINDS: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Words {
    is_up: Mutex<Option<bool>>,
    refusals: Mutex<BTreeMap<String, Refusal>>,
}

#[derive(Debug)]
struct Refusal {
    told: Instant,
    since: u64,
}

impl Words {
    /// It serves.
    pub(super) fn up(&self) {
        if self.changes(true) {
            tracing::info!("redis answers");
        }
    }

    /// It does not.
    pub(super) fn down(&self, reason: &str) {
        if self.changes(false) {
            tracing::warn!(reason, "redis does not answer; requests go on without it until it does");
        }
    }

    /// It answered that it does not do something.
    pub(super) fn refused(&self, reason: &str, now: Instant) {
        if let Some(others) = self.is_due(reason, now) {
            tracing::warn!(reason, others, "redis refuses; requests go on without it");
        }
    }

    fn changes(&self, is_up: bool) -> bool {
        let mut before = self.is_up.lock().unwrap_or_else(PoisonError::into_inner);
        before.replace(is_up) != Some(is_up)
    }

    /// Whether this is to be told, with how many of its kind have not been since the last line.
    fn is_due(&self, reason: &str, now: Instant) -> Option<u64> {
        let kind: String = reason.split(' ').next().unwrap_or_default().chars().take(32).collect();
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = if refusals.len() < KINDS || refusals.contains_key(&kind) { kind } else { String::new() };
        let Some(refusal) = refusals.get_mut(&kind) else {
            refusals.insert(kind, Refusal { told: now, since: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(refusal.told) < PAUSE {
            refusal.since += 1;
            return None;
        }
        refusal.told = now;
        Some(std::mem::take(&mut refusal.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_once() {
        let words = Words::default();
        assert!(words.changes(false) && !words.changes(false));
        assert!(words.changes(true) && !words.changes(true) && words.changes(false));
    }

    #[test]
    fn a_refusal_is_told_once_in_a_while_with_those_in_between() {
        let (words, now) = (Words::default(), Instant::now());
        assert_eq!(words.is_due("OOM command not allowed", now), Some(0));
        for _ in 0..100 {
            assert_eq!(words.is_due("OOM command not allowed", now), None);
        }
        assert_eq!(words.is_due("READONLY you can't write", now), Some(0));
        assert_eq!(words.is_due("OOM again", now + PAUSE), Some(100));
        for kind in 0..1000 {
            let _ = words.is_due(&format!("E{kind} x"), now);
        }
        assert!(words.refusals.lock().expect("the kinds").len() <= KINDS + 1);
    }
}
