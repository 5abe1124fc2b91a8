//! What of `cache.redis` must not be shown: a URL with a password in it, and a password.
//!
//! Neither `Debug`, nor a problem, nor `--print-config` shows a password.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::cache::RedisAddress;
use super::setting::{At, Setting, Text, Wrong};
use super::tree::{Node, Value};
use super::yaml_text;
use crate::secret::Secret;

impl Text for Secret {
    const SECRET: bool = true;

    fn expected() -> String {
        "a password of 1 to 1024 characters".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        (1..=1024).contains(&text.len()).then(|| Self::from(text.to_owned())).ok_or(Wrong::Form)
    }

    fn show(&self) -> String {
        "\"***\"".to_owned()
    }
}

/// `redis://user:password@host:port/db`, or `rediss://` for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RedisUrl {
    /// Whether the scheme asks for TLS.
    pub(super) tls: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) address: RedisAddress,
    pub(super) db: Option<u32>,
}

impl RedisUrl {
    fn parse(text: &str) -> Option<Self> {
        let (tls, rest) = match text.split_once("://")? {
            ("redis", rest) => (false, rest),
            ("rediss", rest) => (true, rest),
            _ => return None,
        };
        let (authority, db) = match rest.split_once('/') {
            Some((authority, "")) => (authority, None),
            Some((authority, db)) => (authority, Some(db)),
            None => (rest, None),
        };
        let db = match db {
            Some(digits) if digits.len() <= 7 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().ok().filter(|db| *db <= 1_000_000)?)
            }
            Some(_) => return None,
            None => None,
        };
        let (login, address) = authority.rsplit_once('@').map_or((None, authority), |(a, b)| (Some(a), b));
        let (user, password) = match login {
            None => (None, None),
            Some(login) => match login.split_once(':') {
                Some((user, password)) => (decoded(user)?, decoded(password)?),
                None => (decoded(login)?, None),
            },
        };
        let has_port = address.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let address = if has_port { address.to_owned() } else { format!("{address}:6379") };
        let address = RedisAddress::parse(&address).ok()?;
        Some(Self { tls, user, password: password.map(Secret::from), address, db })
    }
}

/// What a part of a URL stands for; `Some(None)` if it is empty.
fn decoded(part: &str) -> Option<Option<String>> {
    let text = percent_decode_str(part).decode_utf8().ok()?;
    let is_fit = text.len() <= 1024 && !text.contains(['\0', '\r', '\n']);
    is_fit.then(|| (!text.is_empty()).then(|| text.into_owned()))
}

impl Setting for RedisUrl {
    fn expected() -> String {
        "a URL like redis://localhost:6379/0 or rediss://user:password@host".to_owned()
    }

    fn read(node: &Node, at: &mut At<'_>) -> Option<Self> {
        let url = match &node.value {
            Value::Scalar { text, .. } if !node.is_null() => Self::parse(text),
            _ => None,
        };
        if url.is_none() {
            // What came may have a password in it.
            at.reader.problem(&node.place, &at.path, format!("expected {}, got '***'", Self::expected()));
        }
        url
    }

    fn show(&self) -> String {
        let mut text = if self.tls { "rediss://" } else { "redis://" }.to_owned();
        if let Some(user) = &self.user {
            text.push_str(&utf8_percent_encode(user, NON_ALPHANUMERIC).to_string());
        }
        if self.password.is_some() {
            text.push_str(":***");
        }
        if self.user.is_some() || self.password.is_some() {
            text.push('@');
        }
        match self.address.host.contains(':') {
            true => text.push_str(&format!("[{}]", self.address.host)),
            false => text.push_str(&self.address.host),
        }
        text.push_str(&format!(":{}", self.address.port));
        if let Some(db) = self.db {
            text.push_str(&format!("/{db}"));
        }
        yaml_text::scalar(&text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_urls_and_hides_their_passwords() {
        let shown = |text: &str| RedisUrl::parse(text).map(|url| url.show());
        for (text, expected) in [
            ("redis://localhost", "redis://localhost:6379"),
            ("redis://localhost:1/", "redis://localhost:1"),
            ("rediss://[::1]/3", "rediss://[::1]:6379/3"),
            ("redis://:hush@h:7/0", "redis://:***@h:7/0"),
            ("rediss://me:h%40sh@10.0.0.1:7", "rediss://me:***@10.0.0.1:7"),
            ("redis://me@h", "redis://me@h:6379"),
        ] {
            assert_eq!(
                shown(text).map(|text| text.trim_matches('"').to_owned()).as_deref(),
                Some(expected),
                "{text}"
            );
        }
        let url = RedisUrl::parse("rediss://me:h%40s%3Ah@h:7/2").expect("a URL");
        assert_eq!(
            (url.user.as_deref(), url.password.as_ref().map(Secret::reveal)),
            (Some("me"), Some("h@s:h"))
        );
        assert!(!format!("{url:?}").contains("h@s:h"));
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "",
            "redis",
            "redis:/h",
            "http://h",
            "redis://",
            "redis://h:0",
            "redis://h:65536",
            "redis://h/x",
            "redis://h/1/2",
            "redis://h?protocol=resp2",
            "redis://a b",
            "redis://h/99999999",
            "redis://u:%ff@h",
        ] {
            assert_eq!(RedisUrl::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(redis|rediss)?(://)?[ -~]{0,40}") {
            if let Some(url) = RedisUrl::parse(&text) {
                prop_assert!(url.address.port > 0);
                if let Some(password) = url.password.as_ref().filter(|password| password.reveal().len() > 3) {
                    let others = format!("{:?}{:?}", url.user, url.address);
                    prop_assert!(others.contains(password.reveal()) || !url.show().contains(password.reveal()));
                }
            }
        }
    }
}
