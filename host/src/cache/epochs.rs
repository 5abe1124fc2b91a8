//! Since when what was remembered of a model counts.
//!
//! Owns one number for each model, which is part of the key of each of its entries, in memory and in Redis. A purge
//! raises it, and every entry from before is out of reach at once, on every level; it goes when its time is over or
//! its place is needed. Numbers only grow: nodes that hear of different ones agree on the greatest, whatever the
//! order, and one that Redis forgot is not gone as long as a node knows it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;

/// The name under which a purge of all models is kept; no model has it.
const ALL: &str = "*";

/// What a purge is numbered by, so that the numbers of a node that has forgotten all go on growing: microseconds since
/// 1970.
pub(super) fn clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// See the module. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Epochs {
    known: Arc<ArcSwap<BTreeMap<String, u64>>>,
    changing: Arc<Mutex<()>>,
}

impl Epochs {
    /// The number that goes into keys of this model; 0 if it was never purged. A lock-free read.
    pub fn of(&self, model: &str) -> u64 {
        let known = self.known.load();
        let number = |name: &str| known.get(name).copied().unwrap_or_default();
        number(model).max(number(ALL))
    }

    /// Purges a model, or all of them, on this node. Returns the name and number that other nodes are to hear of.
    pub fn purge(&self, model: Option<&str>) -> (String, u64) {
        let name = model.unwrap_or(ALL).to_owned();
        let _one_at_a_time = self.lock();
        let before = match model {
            Some(model) => self.of(model),
            // Above that of each model: a node whose clock was ahead may have purged one.
            None => self.known.load().values().copied().max().unwrap_or_default(),
        };
        let number = clock().max(before.saturating_add(1));
        self.put([(name.clone(), number)]);
        (name, number)
    }

    /// Takes over what another node knows. Returns whether anything was new.
    pub fn raise(&self, others: impl IntoIterator<Item = (String, u64)>) -> bool {
        let _one_at_a_time = self.lock();
        let known = self.known.load();
        let is_new = |(name, number): &(String, u64)| known.get(name).is_none_or(|known| known < number);
        let new: Vec<_> = others.into_iter().filter(is_new).collect();
        let any = !new.is_empty();
        if any {
            self.put(new);
        }
        any
    }

    /// All that is known.
    pub fn all(&self) -> BTreeMap<String, u64> {
        self.known.load().as_ref().clone()
    }

    fn put(&self, new: impl IntoIterator<Item = (String, u64)>) {
        let mut known = self.all();
        for (name, number) in new {
            let entry = known.entry(name).or_default();
            *entry = number.max(*entry);
        }
        self.known.store(Arc::new(known));
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_purge_changes_the_number_of_its_model_and_of_no_other() {
        let epochs = Epochs::default();
        assert_eq!((epochs.of("a"), epochs.of("b")), (0, 0));
        let (name, first) = epochs.purge(Some("a"));
        assert_eq!((name.as_str(), epochs.of("a"), epochs.of("b")), ("a", first, 0));
        let (_, second) = epochs.purge(Some("a"));
        assert!(second > first, "the clock may stand still");
        let (_, all) = epochs.purge(None);
        assert_eq!((epochs.of("a").max(all), epochs.of("b")), (epochs.of("a"), all));
        let after_all = epochs.of("a");
        assert!(epochs.purge(Some("a")).1 > after_all, "a purge of one after one of all counts too");
    }

    #[test]
    fn a_purge_of_all_counts_for_a_model_that_a_node_with_a_clock_ahead_has_purged() {
        let epochs = Epochs::default();
        let ahead = epochs.purge(Some("b")).1 + 3_600_000_000;
        epochs.raise([("a".to_owned(), ahead)]);
        epochs.purge(None);
        assert!(epochs.of("a") > ahead, "what was remembered before it is out of reach");
    }

    proptest! {
        #[test]
        fn nodes_agree_whatever_they_hear_in_which_order(
            heard in prop::collection::vec(("[abc*]", 1..100_u64), 0..20), seed in any::<u64>(),
        ) {
            let (one, other) = (Epochs::default(), Epochs::default());
            let mut shuffled = heard.clone();
            let count = shuffled.len().max(1);
            shuffled.rotate_left(usize::try_from(seed % 20).expect("small") % count);
            shuffled.reverse();
            for pair in heard { one.raise([pair]); }
            other.raise(shuffled.clone());
            other.raise(shuffled);
            prop_assert_eq!(one.all(), other.all());
        }
    }
}
