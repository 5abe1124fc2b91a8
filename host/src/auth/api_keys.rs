//! The API keys that are known, from the file and from Redis.
//!
//! Owns how the two come together, and the table that requests ask: swapped in one pointer whenever one of them changes.
//! A key that one of them says is revoked is refused, whatever the other says.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::api_key::KeyTable;
use super::authority::Unknown;
use super::identity::Identity;
use super::key_store::Used;
use super::register::Register;

/// Ids that are told of in one line of the log.
const TOLD: usize = 20;

#[derive(Debug, Default)]
struct Sources {
    file: Register,
    shared: Register,
}

/// What a change has brought, by ids: 20 of each at most.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    added: Vec<String>,
    removed: Vec<String>,
}

impl Difference {
    /// In words, for the audit log; `None` if nothing is different.
    pub(super) fn told(&self) -> Option<String> {
        let part =
            |what: &str, ids: &[String]| (!ids.is_empty()).then(|| format!("{what} {}", ids.join(",")));
        let parts: Vec<String> =
            [part("added", &self.added), part("removed", &self.removed)].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ApiKeys {
    table: ArcSwap<KeyTable>,
    sources: Mutex<Sources>,
    /// Whether keys are to come from Redis that never did.
    awaited: AtomicBool,
}

impl ApiKeys {
    /// The keys of a file. `awaited`: more are to come.
    pub(super) fn new(file: Register, awaited: bool) -> Self {
        let keys = Self { awaited: AtomicBool::new(awaited), ..Self::default() };
        keys.change(|sources| sources.file = file);
        keys
    }

    /// Whose key this is.
    pub(super) fn find(&self, key: &str, now: SystemTime) -> Result<Arc<Identity>, Unknown> {
        let table = self.table.load();
        table.find(key, now).map_err(|reason| match self.awaited.load(Relaxed) && !table.knows(key) {
            true => Unknown::NoKeys(reason),
            false => Unknown::Refused(reason),
        })
    }

    /// The file has other keys now.
    pub(super) fn take_file(&self, file: Register) -> Difference {
        self.change(|sources| sources.file = file)
    }

    /// Redis has these keys now, beside those that it had before.
    pub(super) fn take_shared(&self, shared: Register) -> Difference {
        let difference = self.change(|sources| sources.shared = shared);
        self.awaited.store(false, Relaxed);
        difference
    }

    /// When keys of the file, or of Redis, were last used by this process.
    pub(super) fn last_used(&self, shared: bool) -> Used {
        let sources = self.lock();
        let source = if shared { &sources.shared } else { &sources.file };
        let own: BTreeSet<&str> = source.keys().map(|key| key.id.as_str()).collect();
        let table = self.table.load();
        table.last_used().filter(|(id, _)| own.contains(id)).map(|(id, at)| (id.to_owned(), at)).collect()
    }

    fn change(&self, change: impl FnOnce(&mut Sources)) -> Difference {
        let mut sources = self.lock();
        change(&mut sources);
        let mut all = sources.file.clone();
        // Where both have a key under one id, the file's is nearer.
        all.join(&sources.shared);
        let before = self.table.load_full();
        let table = KeyTable::new(all.keys().cloned(), &before);
        let difference =
            Difference { added: ids_without(&table, &before), removed: ids_without(&before, &table) };
        self.table.store(Arc::new(table));
        difference
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ids that may be used by one table and not by the other.
fn ids_without(one: &KeyTable, other: &KeyTable) -> Vec<String> {
    let others: std::collections::HashSet<&str> = other.usable().collect();
    let ids: BTreeSet<&str> = one.usable().filter(|id| !others.contains(id)).collect();
    ids.into_iter().take(TOLD).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::api_key::NewKey;
    use super::*;

    fn register(keys: &[&NewKey]) -> Register {
        keys.iter().map(|key| key.entry.clone()).collect()
    }

    #[test]
    fn a_revocation_counts_wherever_it_is() {
        let now = SystemTime::now();
        let key = NewKey::make("ci", Vec::new(), now, None).unwrap();
        let mut revoked = key.clone();
        revoked.entry.revoked = Some(now);
        let secret = key.secret.reveal();
        let keys = ApiKeys::new(register(&[&key]), true);
        assert!(keys.find(secret, now).is_ok());
        let difference = keys.take_shared(register(&[&revoked]));
        assert_eq!(difference.told(), Some(format!("removed {}", key.entry.id)));
        assert!(
            matches!(keys.find(secret, now), Err(Unknown::Refused(reason)) if reason.contains("revoked"))
        );
        assert_eq!(keys.take_file(register(&[&key])).told(), None);
        assert!(keys.find(secret, now).is_err(), "the file cannot bring it back");
        let keys = ApiKeys::new(register(&[&revoked]), false);
        keys.take_shared(register(&[&key]));
        assert!(keys.find(secret, now).is_err());
    }

    #[test]
    fn while_keys_are_awaited_nobody_is_told_that_a_key_is_wrong() {
        let now = SystemTime::now();
        let key = NewKey::make("ci", Vec::new(), now, None).unwrap();
        let keys = ApiKeys::new(Register::default(), true);
        assert!(matches!(keys.find(key.secret.reveal(), now), Err(Unknown::NoKeys(_))));
        assert!(matches!(keys.find("nonsense", now), Err(Unknown::Refused(_))));
        keys.take_shared(register(&[&key]));
        assert!(keys.find(key.secret.reveal(), now).is_ok());
        keys.take_shared(Register::default());
        assert!(matches!(keys.find(key.secret.reveal(), now), Err(Unknown::Refused(_))));
    }

    #[test]
    fn use_is_told_to_where_a_key_is_kept() {
        let now = SystemTime::now();
        let [of_file, shared] = ["a", "b"].map(|name| NewKey::make(name, Vec::new(), now, None).unwrap());
        let keys = ApiKeys::new(register(&[&of_file]), true);
        keys.take_shared(register(&[&shared]));
        keys.find(of_file.secret.reveal(), now).unwrap();
        keys.find(shared.secret.reveal(), now).unwrap();
        let ids = |shared| keys.last_used(shared).into_keys().collect::<Vec<_>>();
        assert_eq!((ids(false), ids(true)), (vec![of_file.entry.id.clone()], vec![shared.entry.id.clone()]));
    }
}
