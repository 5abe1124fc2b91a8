//! The readers of credentials and keys, for fuzzing alone.
//!
//! Owns nothing: it makes what is private to this module reachable for `crate::fuzzing`.

use std::path::Path;
use std::sync::LazyLock;
use std::time::SystemTime;

use jsonwebtoken::Algorithm;

use super::api_key::{KeyTable, is_api_key};
use super::jwks;
use super::keys::{KeySet, VerificationKey, from_file};
use super::token::{TokenRules, verify};
use crate::config::JwtSettings;

/// The secret that the corpus is signed with.
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static KEYS: LazyLock<(KeySet, TokenRules)> = LazyLock::new(|| {
    let rules = TokenRules::new(&JwtSettings::default());
    let key = from_file(Algorithm::HS256, Path::new("secret"), SECRET).ok();
    let keys = key.map(|key| VerificationKey::new(None, &[Algorithm::HS256], key, &rules));
    (KeySet { keys: keys.into_iter().collect(), epoch: 0 }, rules)
});

/// Takes the bytes for a token, for an API key and for a set of keys. Whoever is believed has a name; no key is of
/// a table that has none.
pub(crate) fn tokens(data: &[u8]) {
    let (keys, rules) = &*KEYS;
    let text = String::from_utf8_lossy(data);
    if let Ok(believed) = verify(&text, keys, rules) {
        assert!(!believed.identity.subject.is_empty(), "somebody without a name is believed");
    }
    let _form = is_api_key(&text);
    assert!(KeyTable::default().find(&text, SystemTime::now()).is_err(), "a key of nobody is taken");
    let _set = jwks::read(data, true, rules);
}
