//! The file of API keys, which `nuke keys` writes and a host reads.
//!
//! Owns its form. There is no key in it, only hashes: who reads it cannot use it to ask for anything.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::file;
use super::names_auth::{ScopeWord, Word};
use super::problem::Problems;
use super::reader::Reader;
use super::section::Section;
use super::setting::{Text, Wrong};
use super::tree::Node;
use super::yaml_text;
use crate::timestamp::{parse_timestamp, timestamp};

/// Bytes of a key's hash: SHA-256.
const HASH: usize = 32;
/// Hexadecimal digits of a key's id.
pub const KEY_ID_DIGITS: usize = 12;

/// One key, but for the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyEntry {
    /// The key's id, which is a part of the key: hexadecimal digits.
    pub id: String,
    /// Who owns it: the subject in logs and limits. Several keys may have one owner.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<ScopeWord>,
    /// SHA-256 of the whole key.
    pub hash: [u8; HASH],
    /// When it was made.
    pub created: SystemTime,
    /// From when on it is refused, if ever.
    pub expires: Option<SystemTime>,
    /// When it was revoked.
    pub revoked: Option<SystemTime>,
}

/// All keys of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiKeyFile {
    /// In the order of their making; each id once.
    pub keys: Vec<ApiKeyEntry>,
}

impl ApiKeyFile {
    /// Reads the content of a file of this name.
    ///
    /// # Errors
    /// Everything that is wrong in it, with its line.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let root = file::decode_keys(bytes, name, &mut problems);
        let reader = Reader::new(name, &[], problems);
        let (value, _) = reader.decode(root.unwrap_or_else(Node::empty), decode)?;
        Ok(value)
    }

    /// The file's content, which [`ApiKeyFile::from_bytes`] reads.
    pub fn to_yaml(&self) -> String {
        let mut text = "# Written by `nuke keys`: hashes, not keys.\nkeys:\n".to_owned();
        if self.keys.is_empty() {
            return text.replace("keys:\n", "keys: []\n");
        }
        for key in &self.keys {
            let scopes = yaml_text::list(key.scopes.iter().map(Text::show));
            let (id, name) = (yaml_text::word(&key.id), yaml_text::word(&key.name));
            // Writing to a text cannot fail.
            let _ =
                write!(text, "- id: {id}\n  name: {name}\n  scopes: {scopes}\n  hash: {}\n", hex(&key.hash));
            let _ = writeln!(text, "  created: {}", timestamp(key.created));
            for (name, time) in [("expires", key.expires), ("revoked", key.revoked)] {
                if let Some(time) = time {
                    let _ = writeln!(text, "  {name}: {}", timestamp(time));
                }
            }
        }
        text
    }
}

fn decode(section: &mut Section<'_>) -> ApiKeyFile {
    let mut seen = std::collections::HashSet::new();
    let entries = section.sections("keys", |section| {
        let id = section.require::<KeyId>("id");
        let name = section.require::<Word>("name");
        let scopes = section.require::<Vec<ScopeWord>>("scopes");
        let hash = section.require::<Hash>("hash");
        let created = section.require::<Moment>("created");
        let expires = section.take::<Option<Moment>>("expires", None);
        let revoked = section.take::<Option<Moment>>("revoked", None);
        let id = id?.0;
        if !seen.insert(id.clone()) {
            let place = section.place().clone();
            section.problem("id", &place, format!("the id '{id}' is there twice; keep one"));
        }
        let (expires, revoked) = (expires.map(|at| at.0), revoked.map(|at| at.0));
        let (hash, created) = (hash?.0, created?.0);
        Some(ApiKeyEntry { id, name: name?.0, scopes: scopes?, hash, created, expires, revoked })
    });
    ApiKeyFile { keys: entries.into_iter().flatten().collect() }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct KeyId(String);

impl Text for KeyId {
    fn expected() -> String {
        format!("the id of a key: {KEY_ID_DIGITS} hexadecimal digits")
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match text.len() == KEY_ID_DIGITS && text.bytes().all(is_digit) {
            true => Ok(Self(text.to_owned())),
            false => Err(Wrong::Form),
        }
    }

    fn show(&self) -> String {
        yaml_text::word(&self.0)
    }
}

struct Hash([u8; HASH]);

impl Text for Hash {
    const SECRET: bool = true;

    fn expected() -> String {
        "the SHA-256 of a key: 64 hexadecimal digits".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let mut hash = [0; HASH];
        if text.len() != 2 * HASH || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Wrong::Form);
        }
        for (at, byte) in hash.iter_mut().enumerate() {
            let digits = text.get(2 * at..2 * at + 2).ok_or(Wrong::Form)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| Wrong::Form)?;
        }
        Ok(Self(hash))
    }

    fn show(&self) -> String {
        hex(&self.0)
    }
}

struct Moment(SystemTime);

impl Text for Moment {
    fn expected() -> String {
        "a time like 2026-11-22T12:00:00Z".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        parse_timestamp(text).map(Self).ok_or(Wrong::Form)
    }

    fn show(&self) -> String {
        timestamp(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    prop_compose! {
        fn entry()(
            id in "[0-9a-f]{12}", name in "[^\\p{C}]{1,20}", hash in any::<[u8; 32]>(), created in 0..4_000_000_000_u64,
            expires in proptest::option::of(0..4_000_000_000_u64), revoked in proptest::option::of(0..4_000_000_000_u64),
            scopes in prop::collection::vec(prop::sample::select(vec!["admin", "metrics", "predict:*", "predict:a-*"]), 0..4),
        ) -> ApiKeyEntry {
            ApiKeyEntry {
                id, name, hash, created: at(created), expires: expires.map(at), revoked: revoked.map(at),
                scopes: scopes.into_iter().filter_map(ScopeWord::parse).collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(keys in prop::collection::vec(entry(), 0..6)) {
            let mut seen = std::collections::HashSet::new();
            let keys: Vec<_> = keys.into_iter().filter(|key| seen.insert(key.id.clone())).collect();
            let file = ApiKeyFile { keys };
            prop_assert_eq!(ApiKeyFile::from_bytes("keys.yaml", file.to_yaml().as_bytes()).unwrap(), file);
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = ApiKeyFile::from_bytes("keys.yaml", &bytes);
        }

        #[test]
        fn a_file_that_is_cut_or_spoilt_never_panics_and_never_gains_a_key(
            keys in prop::collection::vec(entry(), 1..4), cut in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let text = ApiKeyFile { keys: keys.clone() }.to_yaml();
            let cut = cut.index(text.len());
            if let Ok(read) = ApiKeyFile::from_bytes("keys.yaml", &text.as_bytes()[..cut]) {
                prop_assert!(read.keys.len() <= keys.len());
            }
            let mut spoilt = text.into_bytes();
            spoilt[cut] = byte;
            let _ = ApiKeyFile::from_bytes("keys.yaml", &spoilt);
        }
    }

    #[test]
    fn every_problem_has_its_line_and_no_hash_is_shown() {
        let text = "keys:\n- id: 0123456789ab\n  name: a\n  scopes: [predict, root]\n  hash: c0ffee\n  created: now\n\
                    - id: 0123456789ab\n  nam: b\n";
        let problems = ApiKeyFile::from_bytes("keys.yaml", text.as_bytes()).unwrap_err().to_string();
        for expected in [
            "keys.yaml:4:",
            "say which models",
            "keys.yaml:5:",
            "keys.yaml:6:",
            "is there twice",
            "keys[1].nam: unknown",
            "keys[1].name: missing",
        ] {
            assert!(problems.contains(expected), "{expected} is not in {problems}");
        }
        assert!(!problems.contains("c0ffee"), "{problems}");
    }
}
