//! API keys: their form, their making, and the table that finds them.
//!
//! A key is `nuke_<id>_<secret>`: an id that finds it, and 256 random bits. What is kept is the SHA-256 of the whole key.
//! A slow hash would protect what people think up; nobody guesses 256 bits, however fast each try is, and a slow hash
//! on every request would be a way to keep the server busy.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::identity::{Identity, Kind};
use super::scopes::Scopes;
use crate::config::{ApiKeyEntry, KEY_ID_DIGITS, ScopeWord, hex};
use crate::secret::Secret;

const PREFIX: &str = "nuke_";
const SECRET_DIGITS: usize = 64;

/// Whether a text has the form of an API key.
pub(super) fn is_api_key(text: &str) -> bool {
    id_of(text).is_some()
}

fn id_of(text: &str) -> Option<&str> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (id.len() == KEY_ID_DIGITS && secret.len() == SECRET_DIGITS && is_hex(id) && is_hex(secret)).then_some(id)
}

/// A key that was just made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The key itself. It is shown once, to whoever made it.
    pub secret: Secret,
    /// What is kept of it.
    pub entry: ApiKeyEntry,
}

impl NewKey {
    /// Makes a key out of the system's randomness.
    ///
    /// # Errors
    /// When the system has none to give.
    pub fn make(
        name: &str,
        scopes: Vec<ScopeWord>,
        now: SystemTime,
        expires: Option<SystemTime>,
    ) -> std::io::Result<Self> {
        let mut random = [0_u8; KEY_ID_DIGITS / 2 + SECRET_DIGITS / 2];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let (id, secret) = random.split_at(KEY_ID_DIGITS / 2);
        let id = hex(id);
        let secret = format!("{PREFIX}{id}_{}", hex(secret));
        let entry = ApiKeyEntry {
            id,
            name: name.to_owned(),
            scopes,
            hash: hash(&secret),
            created: now,
            expires,
            revoked: None,
        };
        Ok(Self { secret: secret.into(), entry })
    }
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// A key as the server has it.
#[derive(Debug)]
pub(super) struct KnownKey {
    entry: ApiKeyEntry,
    identity: Arc<Identity>,
    /// Seconds since 1970 of its last use by this process; 0 for never.
    used: Arc<AtomicU64>,
}

/// All keys, found by their id.
#[derive(Debug, Default)]
pub(super) struct KeyTable(HashMap<String, KnownKey>);

impl KeyTable {
    /// A table of these keys. What the table before it knows of their use is kept.
    pub(super) fn new(keys: impl IntoIterator<Item = ApiKeyEntry>, before: &Self) -> Self {
        let known = |entry: ApiKeyEntry| {
            let scopes = Scopes::of(&entry.scopes);
            let identity = Arc::new(Identity::new(Kind::ApiKey, entry.name.clone(), scopes));
            let used = before.0.get(&entry.id).map(|key| Arc::clone(&key.used)).unwrap_or_default();
            (entry.id.clone(), KnownKey { entry, identity, used })
        };
        Self(keys.into_iter().map(known).collect())
    }

    /// Whose key this is, or why it is nobody's. The reason names no part of the key but its id.
    pub(super) fn find(&self, key: &str, now: SystemTime) -> Result<Arc<Identity>, String> {
        let id = id_of(key).ok_or("this has not the form of an API key")?;
        let known = self.0.get(id).ok_or_else(|| format!("there is no API key {id}"))?;
        if !bool::from(hash(key).ct_eq(&known.entry.hash)) {
            return Err(format!("the secret of API key {id} is wrong"));
        }
        if known.entry.revoked.is_some() {
            return Err(format!("API key {id} of '{}' is revoked", known.entry.name));
        }
        if known.entry.expires.is_some_and(|expires| expires <= now) {
            return Err(format!("API key {id} of '{}' has expired", known.entry.name));
        }
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if known.used.load(Relaxed) != seconds {
            known.used.store(seconds, Relaxed);
        }
        Ok(Arc::clone(&known.identity))
    }

    /// Whether the id is known that this key names; also if it names none.
    pub(super) fn knows(&self, key: &str) -> bool {
        id_of(key).is_none_or(|id| self.0.contains_key(id))
    }

    /// When keys were last used by this process, those that were not left out.
    pub(super) fn last_used(&self) -> impl Iterator<Item = (&str, SystemTime)> {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let used = self.0.iter().map(|(id, key)| (id.as_str(), key.used.load(Relaxed)));
        used.filter(|(_, seconds)| *seconds > 0).map(move |(id, seconds)| (id, at(seconds)))
    }

    /// The ids of keys that may be used, as far as it is not their time.
    pub(super) fn usable(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, key)| key.entry.revoked.is_none()).map(|(id, _)| id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn key(name: &str, expires: Option<SystemTime>) -> NewKey {
        let scopes = vec![ScopeWord::parse("predict:*").unwrap()];
        NewKey::make(name, scopes, now(), expires).unwrap()
    }

    fn table(keys: &[&NewKey]) -> KeyTable {
        KeyTable::new(keys.iter().map(|key| key.entry.clone()), &KeyTable::default())
    }

    #[test]
    fn a_key_is_its_owner_until_it_is_revoked_or_expires() {
        let (one, two) = (key("ci", None), key("ci", Some(now())));
        assert_ne!(one.secret, two.secret);
        let found = table(&[&one, &two]);
        let identity = found.find(one.secret.reveal(), now()).unwrap();
        assert_eq!((identity.subject.as_str(), identity.kind), ("ci", Kind::ApiKey));
        assert!(found.find(two.secret.reveal(), now()).unwrap_err().contains("has expired"));
        assert!(found.find(two.secret.reveal(), now() - Duration::from_secs(1)).is_ok());
        let mut revoked = one.clone();
        revoked.entry.revoked = Some(now());
        assert!(table(&[&revoked]).find(one.secret.reveal(), now()).unwrap_err().contains("is revoked"));
        assert_eq!(found.last_used().count(), 2);
    }

    #[test]
    fn use_is_remembered_over_a_reload() {
        let one = key("ci", None);
        let before = table(&[&one]);
        before.find(one.secret.reveal(), now()).unwrap();
        let after = KeyTable::new([one.entry.clone()], &before);
        assert_eq!(after.last_used().collect::<Vec<_>>(), [(one.entry.id.as_str(), now())]);
    }

    #[test]
    fn nothing_shows_a_secret() {
        let one = key("ci", None);
        let secret = one.secret.reveal().rsplit('_').next().unwrap().to_owned();
        assert!(!format!("{one:?}{:?}", table(&[&one])).contains(&secret));
        let mut wrong = one.secret.reveal().to_owned();
        wrong.replace_range(wrong.len() - 1.., if wrong.ends_with('0') { "1" } else { "0" });
        let reason = table(&[&one]).find(&wrong, now()).unwrap_err();
        assert!(reason.contains("is wrong") && !reason.contains(&secret[..8]), "{reason}");
    }

    proptest! {
        #[test]
        fn no_other_text_is_a_key(text in any::<String>(), spoil in any::<prop::sample::Index>(), byte in b' '..b'~') {
            let one = key("ci", None);
            let found = table(&[&one]);
            prop_assert!(found.find(&text, now()).is_err());
            let mut spoilt = one.secret.reveal().as_bytes().to_vec();
            let at = spoil.index(spoilt.len());
            let same = spoilt[at] == byte;
            spoilt[at] = byte;
            prop_assert_eq!(found.find(std::str::from_utf8(&spoilt).unwrap(), now()).is_ok(), same);
        }
    }
}
