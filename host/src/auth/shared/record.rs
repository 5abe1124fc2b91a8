//! One API key as Redis keeps it: JSON, held against every rule that the file of keys has.

use serde::{Deserialize, Serialize};

use crate::config::{ApiKeyEntry, KEY_ID_DIGITS, ScopeWord, hex};
use crate::timestamp::{parse_timestamp, timestamp};

/// The largest entry, in bytes.
pub(super) const LARGEST: usize = 16 << 10;
/// The longest name of an owner, in bytes.
const LONGEST_NAME: usize = 256;
/// The form that is written, and the only one that is read.
const VERSION: u32 = 1;

/// Why an entry cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is none, and why, without a word of its content.
    Malformed(&'static str),
    /// A later version of the host has written it, which must not be overwritten. That the key is revoked counts all
    /// the same.
    Later {
        /// Whether it says that.
        is_revoked: bool,
    },
}

impl Unusable {
    /// In words.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Malformed(reason) => reason,
            Self::Later { .. } => "a later version of the host has written it; update this one",
        }
    }
}

/// What every version of an entry has.
#[derive(Deserialize)]
struct Form {
    v: u32,
    #[serde(default)]
    revoked: serde_json::Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    v: u32,
    name: String,
    scopes: Vec<String>,
    hash: String,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
}

/// What is kept of a key under its id.
pub(super) fn write(key: &ApiKeyEntry) -> Vec<u8> {
    let record = Record {
        v: VERSION,
        name: key.name.clone(),
        scopes: key.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        hash: hex(&key.hash),
        created: timestamp(key.created),
        expires: key.expires.map(timestamp),
        revoked: key.revoked.map(timestamp),
    };
    // Texts and numbers alone: nothing of it can fail.
    serde_json::to_vec(&record).unwrap_or_default()
}

/// Reads what is kept under an id.
///
/// # Errors
/// [`Unusable`].
pub(super) fn read(id: &[u8], text: &[u8]) -> Result<ApiKeyEntry, Unusable> {
    let id = std::str::from_utf8(id).ok().filter(|id| is_hex(id, KEY_ID_DIGITS));
    let id = id.ok_or(Unusable::Malformed("its name is not the id of a key"))?;
    if text.len() > LARGEST {
        return Err(Unusable::Malformed("it is larger than any entry"));
    }
    if let Ok(form) = serde_json::from_slice::<Form>(text)
        && form.v > VERSION
    {
        return Err(Unusable::Later { is_revoked: !form.revoked.is_null() });
    }
    entry(id, text).map_err(Unusable::Malformed)
}

fn entry(id: &str, text: &[u8]) -> Result<ApiKeyEntry, &'static str> {
    let record: Record = serde_json::from_slice(text).map_err(|_| "it is not an entry's JSON")?;
    if record.v != VERSION {
        return Err("it has the form of another version of the host");
    }
    if record.name.is_empty() || record.name.len() > LONGEST_NAME || record.name.chars().any(char::is_control)
    {
        return Err("its owner has no name that can be one");
    }
    let scopes: Option<Vec<ScopeWord>> = record.scopes.iter().map(|scope| ScopeWord::parse(scope)).collect();
    let time = |text: &str| parse_timestamp(text).ok_or("a time of it is none");
    Ok(ApiKeyEntry {
        id: id.to_owned(),
        name: record.name,
        scopes: scopes.ok_or("a scope of it is none")?,
        hash: hash(&record.hash).ok_or("its hash is none")?,
        created: time(&record.created)?,
        expires: record.expires.as_deref().map(time).transpose()?,
        revoked: record.revoked.as_deref().map(time).transpose()?,
    })
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hash(text: &str) -> Option<[u8; 32]> {
    if !is_hex(text, 64) {
        return None;
    }
    let mut hash = [0; 32];
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;

    fn entry(name: String, expires: Option<u64>, revoked: Option<u64>) -> ApiKeyEntry {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        ApiKeyEntry {
            id: "0123456789ab".to_owned(),
            name,
            scopes: vec![ScopeWord::parse("predict:a-*").unwrap()],
            hash: [0xa7; 32],
            created: at(1_800_000_000),
            expires: expires.map(at),
            revoked: revoked.map(at),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            name in "[^\\p{C}]{1,40}", expires in proptest::option::of(0..4_000_000_000_u64),
            revoked in proptest::option::of(0..4_000_000_000_u64),
        ) {
            let entry = entry(name, expires, revoked);
            prop_assert_eq!(read(entry.id.as_bytes(), &write(&entry)), Ok(entry));
        }

        #[test]
        fn any_bytes_are_refused_and_spoilt_ones_never_are_another_key(
            id in prop::collection::vec(any::<u8>(), 0..16), bytes in prop::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            prop_assert!(read(&id, &bytes).is_err());
            let own = entry("ci".to_owned(), Some(1), None);
            let mut spoilt = write(&own);
            let at = at.index(spoilt.len());
            prop_assert!(read(own.id.as_bytes(), &spoilt[..at]).is_err());
            spoilt[at] = byte;
            let _ = read(own.id.as_bytes(), &spoilt);
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_its_content() {
        let good = String::from_utf8(write(&entry("ci".to_owned(), None, None))).unwrap();
        let long = "x".repeat(LARGEST);
        for (from, to, expected) in [
            ("\"v\":1", "\"v\":2", "version"),
            ("\"v\":1", "\"v\":0", "version"),
            ("\"ci\"", "\"\"", "owner"),
            ("\"ci\"", "\"a\\nb\"", "owner"),
            ("predict:a-*", "root", "scope"),
            ("a7a7", "A7a7", "hash"),
            ("a7a7", "a7", "hash"),
            ("2027", "then", "time"),
            ("\"ci\"", "\"ci\",\"secret\":\"hunter2\"", "JSON"),
            ("\"ci\"", &format!("\"{long}\""), "larger"),
            ("{", "[", "JSON"),
        ] {
            let spoilt = good.replacen(from, to, 1);
            assert_ne!(spoilt, good);
            let reason = read(b"0123456789ab", spoilt.as_bytes()).unwrap_err().reason();
            assert!(reason.contains(expected), "{reason}");
        }
        for id in [b"".as_slice(), b"0123456789aB", b"0123456789abc", b"\xff\xff", b"#revision"] {
            assert!(read(id, good.as_bytes()).unwrap_err().reason().contains("id of a key"));
        }
    }

    #[test]
    fn a_later_hosts_entry_is_told_from_a_spoilt_one() {
        let later = |text: &str| read(b"0123456789ab", text.as_bytes());
        let is_revoked = |is_revoked| Err(Unusable::Later { is_revoked });
        assert_eq!(later(r#"{"v":2,"owner":{"name":"ci"},"revoked":"2027-01-01"}"#), is_revoked(true));
        assert_eq!(later(r#"{"v":2,"owner":7}"#), is_revoked(false));
        assert!(matches!(later(r#"{"v":"2"}"#), Err(Unusable::Malformed(_))));
    }
}
