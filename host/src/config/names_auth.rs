//! Words of `auth`, `limits` and the file of API keys: scopes, algorithms, sources of keys, rates, networks.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use jsonwebtoken::Algorithm;

use super::quantity::ByteSize;
use super::setting::{At, Choice, Setting, Text, Wrong, expected_choice, parse_choice, show_choice};
use super::tree::{Node, Value};
use super::yaml_text;

/// The longest of these words, in bytes.
const LONGEST: usize = 256;

impl Choice for Algorithm {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("HS256", Self::HS256),
        ("HS384", Self::HS384),
        ("HS512", Self::HS512),
        ("RS256", Self::RS256),
        ("RS384", Self::RS384),
        ("RS512", Self::RS512),
        ("PS256", Self::PS256),
        ("PS384", Self::PS384),
        ("PS512", Self::PS512),
        ("ES256", Self::ES256),
        ("ES384", Self::ES384),
        ("EdDSA", Self::EdDSA),
    ];
}

impl Text for Algorithm {
    fn expected() -> String {
        expected_choice::<Self>()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        parse_choice(text)
    }

    fn show(&self) -> String {
        show_choice(*self).to_owned()
    }
}

/// A word without control characters, such as an issuer or a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) String);

impl Text for Word {
    fn expected() -> String {
        format!("a word of at most {LONGEST} bytes, without control characters")
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        match (1..=LONGEST).contains(&text.len()) && !text.chars().any(char::is_control) {
            true => Ok(Self(text.to_owned())),
            false => Err(Wrong::Form),
        }
    }

    fn show(&self) -> String {
        yaml_text::word(&self.0)
    }
}

/// A word in which `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(pub(super) String);

impl Text for Pattern {
    fn expected() -> String {
        "a subject like CN=ops, or a pattern of it with '*'".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        Word::parse(text).map(|word| Self(word.0))
    }

    fn show(&self) -> String {
        yaml_text::word(&self.0)
    }
}

/// What somebody may do: `predict:<models>`, `admin` or `metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeWord(String);

impl ScopeWord {
    /// Reads a scope; `None` if it is none that is known here.
    pub fn parse(text: &str) -> Option<Self> {
        let of_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'*');
        let known = match text.strip_prefix("predict:") {
            Some(models) => (1..=LONGEST).contains(&models.len()) && models.bytes().all(of_name),
            None => matches!(text, "admin" | "metrics"),
        };
        known.then(|| Self(text.to_owned()))
    }

    /// The scope as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Text for ScopeWord {
    fn expected() -> String {
        "a scope: admin, metrics, or predict:<model>, in which '*' stands for any text".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        Self::parse(text).ok_or_else(|| match text {
            "predict" => Wrong::Because("say which models, such as predict:*".to_owned()),
            _ => Wrong::Form,
        })
    }

    fn show(&self) -> String {
        yaml_text::scalar(&self.0)
    }
}

/// Where a set of keys comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    /// A file, read anew when it changes.
    File(PathBuf),
    /// A URL, asked again and again: `https://`, or `http://` to this machine itself.
    Url(Uri),
}

impl Setting for JwksSource {
    fn expected() -> String {
        "a file's path, or a URL like https://issuer.example/keys.json".to_owned()
    }

    fn read(node: &Node, at: &mut At<'_>) -> Option<Self> {
        match &node.value {
            Value::Scalar { text, .. } if text.contains("://") => match key_url(text) {
                Ok(url) => Some(Self::Url(url)),
                Err(reason) => {
                    // The URL may hold what its writer should not have put there.
                    at.reader.problem(
                        &node.place,
                        &at.path,
                        format!("expected {}; {reason}", Self::expected()),
                    );
                    None
                }
            },
            _ => PathBuf::read(node, at).map(Self::File),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::File(path) => path.show(),
            Self::Url(url) => yaml_text::scalar(&url.to_string()),
        }
    }
}

fn key_url(text: &str) -> Result<Uri, &'static str> {
    let url: Uri = text.parse().map_err(|_| "this is no URL")?;
    let authority = url.authority().ok_or("it names no host")?;
    if authority.as_str().contains('@') {
        return Err("a user name or password cannot be part of it");
    }
    let host = authority.host().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match url.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if is_here => Ok(url),
        Some("http") => Err("http:// is for this machine only: whoever is on the way could change the keys"),
        _ => Err("the scheme is neither https nor http"),
    }
}

/// So many in a second, minute or hour: `100/s`, `30/m`, `1000/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In which time.
    pub per: Duration,
}

/// So many bytes in a second, minute or hour: `64MiB/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRate {
    /// How many.
    pub size: ByteSize,
    /// In which time.
    pub per: Duration,
}

const PERIODS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];

fn split_rate(text: &str) -> Result<(&str, Duration), Wrong> {
    let (number, unit) = text.split_once('/').ok_or(Wrong::Form)?;
    let (_, seconds) = PERIODS.iter().find(|(name, _)| *name == unit).ok_or(Wrong::Form)?;
    Ok((number, Duration::from_secs(*seconds)))
}

fn unit(per: Duration) -> &'static str {
    PERIODS.iter().find(|(_, seconds)| *seconds == per.as_secs()).map_or("s", |(name, _)| name)
}

impl Text for Rate {
    fn expected() -> String {
        "a rate like 100/s, 30/m or 1000/h, from 1 to 1000000".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let (number, per) = split_rate(text)?;
        let count = <u32 as Text>::parse(number)?;
        match (1..=1_000_000).contains(&count) {
            true => Ok(Self { count, per }),
            false => Err(Wrong::Form),
        }
    }

    fn show(&self) -> String {
        format!("{}/{}", self.count, unit(self.per))
    }
}

impl Text for ByteRate {
    fn expected() -> String {
        "a rate of bytes like 64MiB/s or 1GiB/h, from 1KiB to 1TiB".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let (number, per) = split_rate(text)?;
        let size = <ByteSize as Text>::parse(number)?;
        match (ByteSize::kib(1)..=ByteSize::mib(1 << 20)).contains(&size) {
            true => Ok(Self { size, per }),
            false => Err(Wrong::Form),
        }
    }

    fn show(&self) -> String {
        format!("{}/{}", self.size, unit(self.per))
    }
}

/// Addresses that begin alike: `10.0.0.0/8`, `fd00::/8`, or a single one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether an address is one of them. An IPv4 address is the same in its IPv6 form.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.bits);
                u32::from(own).checked_shr(shift) == u32::from(other).checked_shr(shift)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.bits);
                u128::from(own).checked_shr(shift) == u128::from(other).checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Text for Network {
    fn expected() -> String {
        "an address like 10.0.0.1, or a network like 10.0.0.0/8".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(<u32 as Text>::parse(bits)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| Wrong::Form)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = u8::try_from(bits.unwrap_or(most)).map_err(|_| Wrong::Form)?;
        match u32::from(bits) <= most {
            true => Ok(Self { address, bits }),
            false => Err(Wrong::Form),
        }
    }

    fn show(&self) -> String {
        yaml_text::scalar(&self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes() {
        for text in ["admin", "metrics", "predict:*", "predict:image-*", "predict:a.b_c-1"] {
            assert_eq!(ScopeWord::parse(text).unwrap().as_str(), text);
        }
        for text in
            ["", "Admin", "admin ", "predict", "predict:", "predict:a/b", "predict:a b", "*", "predict:é"]
        {
            assert_eq!(ScopeWord::parse(text), None, "{text}");
        }
    }

    #[test]
    fn rates_are_read_and_shown_alike() {
        for text in ["100/s", "30/m", "1000000/h"] {
            assert_eq!(Text::show(&<Rate as Text>::parse(text).unwrap()), text);
        }
        for text in ["", "100", "0/s", "1000001/s", "1/d", "/s", "1.5/s", "-1/s", "1/s/s"] {
            assert!(<Rate as Text>::parse(text).is_err(), "{text}");
        }
        assert_eq!(Text::show(&<ByteRate as Text>::parse("64MiB/s").unwrap()), "64MiB/s");
        for text in ["64MiB", "1/s", "2TiB/s", "MiB/s"] {
            assert!(<ByteRate as Text>::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_contain_addresses_in_either_form() {
        let network = |text: &str| <Network as Text>::parse(text).unwrap();
        let has = |net: &str, address: &str| network(net).contains(address.parse().unwrap());
        assert!(has("10.0.0.0/8", "10.9.8.7") && has("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert!(!has("10.0.0.0/8", "11.0.0.1") && !has("10.0.0.0/8", "::1"));
        assert!(has("0.0.0.0/0", "1.2.3.4") && has("::/0", "::1") && !has("::/0", "1.2.3.4"));
        assert!(has("fd00::/8", "fd12::1") && has("10.0.0.1", "10.0.0.1") && !has("10.0.0.1", "10.0.0.2"));
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/-1", "example/8"] {
            assert!(<Network as Text>::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_of_keys() {
        for text in
            ["https://issuer.example/keys", "http://127.0.0.1:8/k", "http://localhost/k", "http://[::1]:8/k"]
        {
            assert!(key_url(text).is_ok(), "{text}");
        }
        let wrong = [
            "http://issuer.example/k",
            "https://me:secret@issuer.example/k",
            "file:///k",
            "https://",
            "https://a b",
        ];
        for text in wrong {
            assert!(key_url(text).is_err(), "{text}");
        }
    }
}
