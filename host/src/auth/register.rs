//! API keys of several nodes, brought together.
//!
//! Owns the rules by which two copies of the keys become one, whatever order copies come in, and however often: keys are
//! added, an end of a key may come nearer, a revocation stays. Nothing else ever changes, so that no copy that is old or
//! was lost can bring a revoked key back, and none that is empty can take keys away.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::config::{ApiKeyEntry, ApiKeyFile};

/// For how long a key is kept after its own end, so that no clock that is behind takes it for valid.
const OUTLIVED: Duration = Duration::from_secs(24 * 3600);

/// See the module. Keys by their id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Register(BTreeMap<String, ApiKeyEntry>);

impl Register {
    /// Takes in another copy. Returns the ids under which it has another key than the one that is known, which stays; a
    /// revocation of the id counts all the same.
    pub(super) fn join(&mut self, other: &Self) -> Vec<String> {
        let mut others = Vec::new();
        for (id, theirs) in &other.0 {
            match self.0.get_mut(id) {
                None => drop(self.0.insert(id.clone(), theirs.clone())),
                Some(own) if is_same_key(own, theirs) => {
                    own.expires = earliest(own.expires, theirs.expires);
                    own.revoked = earliest(own.revoked, theirs.revoked);
                }
                Some(own) => {
                    own.revoked = earliest(own.revoked, theirs.revoked);
                    others.push(id.clone());
                }
            }
        }
        others
    }

    /// What another copy would learn from this one.
    pub(super) fn news_for(&self, other: &Self) -> Vec<&ApiKeyEntry> {
        let is_news = |own: &&ApiKeyEntry| match other.0.get(&own.id) {
            None => true,
            Some(theirs) => {
                is_same_key(own, theirs)
                    && (earliest(own.expires, theirs.expires) != theirs.expires
                        || own.revoked.is_some() && theirs.revoked.is_none())
            }
        };
        self.0.values().filter(is_news).collect()
    }

    /// Ends a key that is known.
    pub(super) fn revoke(&mut self, id: &str, at: SystemTime) {
        if let Some(key) = self.0.get_mut(id) {
            key.revoked = earliest(key.revoked, Some(at));
        }
    }

    /// Forgets keys that have been over for so long that no clock takes them for valid; their revocations with them.
    /// Those that would never end by themselves stay, revoked or not. Returns the ids that are gone.
    pub(super) fn forget_outlived(&mut self, now: SystemTime) -> Vec<String> {
        let is_outlived = |key: &ApiKeyEntry| {
            key.expires.and_then(|end| end.checked_add(OUTLIVED)).is_some_and(|end| end <= now)
        };
        let gone: Vec<String> =
            self.0.values().filter(|key| is_outlived(key)).map(|key| key.id.clone()).collect();
        for id in &gone {
            self.0.remove(id);
        }
        gone
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &ApiKeyEntry> {
        self.0.values()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<ApiKeyEntry> for Register {
    fn from_iter<I: IntoIterator<Item = ApiKeyEntry>>(keys: I) -> Self {
        Self(keys.into_iter().map(|key| (key.id.clone(), key)).collect())
    }
}

impl From<ApiKeyFile> for Register {
    fn from(file: ApiKeyFile) -> Self {
        file.keys.into_iter().collect()
    }
}

/// Whether two entries are about one key: its owner, what it allows and its hash never change.
fn is_same_key(one: &ApiKeyEntry, other: &ApiKeyEntry) -> bool {
    one.hash == other.hash && one.name == other.name && one.scopes == other.scopes
}

fn earliest(one: Option<SystemTime>, other: Option<SystemTime>) -> Option<SystemTime> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn name(id: u8) -> String {
        format!("{id:012x}")
    }

    fn key(id: u8, expires: Option<u64>, revoked: Option<u64>) -> ApiKeyEntry {
        ApiKeyEntry {
            id: name(id),
            name: format!("owner{id}"),
            scopes: Vec::new(),
            hash: [id; 32],
            created: at(0),
            expires: expires.map(at),
            revoked: revoked.map(at),
        }
    }

    prop_compose! {
        fn copy()(keys in prop::collection::vec(
            (0..6_u8, proptest::option::of(0..9_u64), proptest::option::of(0..9_u64)), 0..8,
        )) -> Register {
            keys.into_iter().map(|(id, expires, revoked)| key(id, expires, revoked)).collect()
        }
    }

    fn joined(one: &Register, other: &Register) -> Register {
        let mut both = one.clone();
        assert!(both.join(other).is_empty());
        both
    }

    proptest! {
        #[test]
        fn copies_come_together_in_any_order_and_number(one in copy(), two in copy(), three in copy()) {
            let both = joined(&one, &two);
            prop_assert_eq!(&both, &joined(&two, &one));
            prop_assert_eq!(&both, &joined(&both, &two));
            prop_assert_eq!(joined(&both, &three), joined(&one, &joined(&two, &three)));
        }

        #[test]
        fn nothing_comes_back_and_nothing_gets_longer(one in copy(), two in copy()) {
            let both = joined(&one, &two);
            for own in one.keys() {
                let then = &both.0[&own.id];
                prop_assert!(own.revoked.is_none() || then.revoked.is_some());
                prop_assert!(own.expires.is_none() || then.expires.is_some_and(|end| Some(end) <= own.expires));
            }
        }

        #[test]
        fn news_are_just_what_the_other_lacks(one in copy(), two in copy()) {
            let news: Register = one.news_for(&two).into_iter().cloned().collect();
            let (told, whole) = (joined(&two, &news), joined(&two, &one));
            let ends = |of: &Register| -> Vec<_> {
                of.keys().map(|key| (key.id.clone(), key.expires, key.revoked.is_some())).collect()
            };
            prop_assert_eq!(ends(&told), ends(&whole));
            prop_assert!(one.news_for(&told).is_empty());
        }

        /// Whatever nodes and a store that forgets everything now and then tell each other, a key that one of those
        /// that go on has seen revoked is never valid again, and none that one of them knows is lost.
        #[test]
        fn a_store_that_forgets_is_told_again(steps in prop::collection::vec((0..3_usize, 0..6_u8, 0..4_u8), 1..80)) {
            let mut nodes = [const { Register(BTreeMap::new()) }; 3];
            let mut store = Register::default();
            let mut revoked = std::collections::BTreeSet::new();
            let mut known = std::collections::BTreeSet::new();
            for (node, id, step) in steps {
                match step {
                    0 => store = Register::default(),
                    1 => {
                        nodes[node].join(&[key(id, None, None)].into_iter().collect());
                        known.insert(id);
                    }
                    2 => {
                        nodes[node].join(&[key(id, None, Some(5))].into_iter().collect());
                        revoked.insert(id);
                    }
                    _ => {
                        nodes[node].join(&store);
                        let news: Register = nodes[node].news_for(&store).into_iter().cloned().collect();
                        store.join(&news);
                    }
                }
            }
            for _ in 0..2 {
                for node in &mut nodes {
                    node.join(&store);
                    let news: Register = node.news_for(&store).into_iter().cloned().collect();
                    store.join(&news);
                }
            }
            for node in &nodes {
                prop_assert_eq!(node, &store);
                prop_assert!(revoked.iter().all(|id| node.0[&name(*id)].revoked.is_some()));
                prop_assert!(known.iter().all(|id| node.0.contains_key(&name(*id))));
            }
        }
    }

    #[test]
    fn another_key_under_a_known_id_is_not_taken_nor_told() {
        let mut own: Register = [key(1, None, None)].into_iter().collect();
        let forged = ApiKeyEntry { hash: [9; 32], revoked: None, ..key(1, None, None) };
        let theirs: Register = [forged].into_iter().collect();
        assert_eq!(own.join(&theirs), [name(1)]);
        assert_eq!(own.0[&name(1)].hash, [1; 32]);
        assert!(own.news_for(&theirs).is_empty(), "two nodes must not write over each other for ever");
    }

    #[test]
    fn only_what_ended_by_itself_is_forgotten() {
        let mut own: Register = [
            key(1, Some(10), Some(5)),
            key(2, None, Some(5)),
            key(3, None, None),
            key(4, Some(90_000), None),
        ]
        .into_iter()
        .collect();
        assert_eq!(own.forget_outlived(at(10 + 24 * 3600)), [name(1)]);
        assert_eq!(own.len(), 3);
    }
}
