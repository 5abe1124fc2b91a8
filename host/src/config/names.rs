//! Words with a meaning: names of models and headers, capabilities, choices, log filters.

use serde::{Deserialize, Serialize};

use super::batching::Oversize;
use super::model::Isolation;
use super::model_cache::{CacheCompression, CacheScope};
use super::on_demand::LoadPolicy;
use super::setting::{Choice, Text, Wrong, expected_choice, parse_choice, show_choice};
use super::traffic::{Colour, Reward, Strategy};
use super::yaml_text;
use crate::model::{ArenaExtend, Shrink};

/// What a plugin may import from the host, each by its own consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// `logging`: lines into the host's log.
    Logging,
    /// `bundle`: the read-only files and settings of its version.
    Bundle,
    /// `image`: the host's decoders and kernels.
    Image,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Logging, Self::Bundle, Self::Image];

    /// Its name in `bundle.yaml`, in `plugins.allow`, and of its interface.
    pub fn as_str(self) -> &'static str {
        show_choice(self)
    }
}

impl Choice for Capability {
    const WORDS: &'static [(&'static str, Self)] =
        &[("logging", Self::Logging), ("bundle", Self::Bundle), ("image", Self::Image)];
    const LATER: &'static [&'static str] = &["text", "inference"];
}

/// Whether plugin memory comes from a pool that is reserved at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// A pool if the machine grants the address space, else none, with a warning.
    Auto,
    /// A pool; the server does not start without.
    On,
    /// Memory is asked for when an instance is made.
    Off,
}

impl Choice for Pooling {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)];
}

/// How changes of the folders are noticed between two rescans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Watch {
    /// By the system's file events where there are any; without them a warning, and rescans alone.
    Auto,
    /// By file events; the server does not start without.
    Native,
    /// By rescans alone.
    Poll,
}

impl Choice for Watch {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("native", Self::Native), ("poll", Self::Poll)];
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// `pretty` on a terminal, else `json`.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl Choice for LogFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("pretty", Self::Pretty), ("json", Self::Json)];
}

/// Who is told what a plugin that broke down left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorDetails {
    /// Who asks from this machine, and not by way of a proxy that says so.
    Local,
    /// Everyone.
    Always,
    /// Nobody; the log has it.
    Never,
}

impl Choice for ErrorDetails {
    const WORDS: &'static [(&'static str, Self)] =
        &[("local", Self::Local), ("always", Self::Always), ("never", Self::Never)];
}

/// Makes a choice a value.
macro_rules! choice_text {
    ($($choice:ty),+) => {$(
        impl Text for $choice {
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
    )+};
}

choice_text!(
    ArenaExtend,
    CacheCompression,
    CacheScope,
    Capability,
    Colour,
    ErrorDetails,
    Isolation,
    LoadPolicy,
    LogFormat,
    Oversize,
    Pooling,
    Reward,
    Shrink,
    Strategy,
    Watch
);

/// The longest name of a model or version, in bytes: it is a folder's name.
const MAX_NAME: usize = 128;

/// The name of a model, a version or a plugin: a folder's name and a part of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(pub(super) String);

impl Text for Name {
    fn expected() -> String {
        format!("a name of letters, digits, '.', '_' and '-', at most {MAX_NAME} of them")
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let length = (1..=MAX_NAME).contains(&text.len());
        if length && text.bytes().all(valid) && text != "." && text != ".." {
            return Ok(Self(text.to_owned()));
        }
        Err(Wrong::Form)
    }

    fn show(&self) -> String {
        yaml_text::word(&self.0)
    }
}

/// The name of a request header, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeaderName(pub(super) String);

impl Text for HeaderName {
    fn expected() -> String {
        "the name of a header like accept-language".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let valid = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(valid) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(Wrong::Form)
    }

    fn show(&self) -> String {
        yaml_text::word(&self.0)
    }
}

/// The public key of somebody who signs, as minisign writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TrustedKey(pub(super) String);

impl Text for TrustedKey {
    fn expected() -> String {
        "a minisign public key: the second line of minisign.pub, 56 characters that begin with RW".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        match minisign_verify::PublicKey::from_base64(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(Wrong::Form),
        }
    }

    fn show(&self) -> String {
        yaml_text::word(&self.0)
    }
}

/// Which log lines are written: a level, or `target=level` pairs, between commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

/// The levels, from none to all.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl LogFilter {
    /// The filter as text, in the form of `tracing`'s directives.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Lines of level `info` and worse.
    pub(super) fn info() -> Self {
        Self("info".to_owned())
    }
}

impl Text for LogFilter {
    fn expected() -> String {
        "a level (off, error, warn, info, debug, trace) or target=level pairs like info,nuke_host::plugin=debug"
            .to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let directives: Vec<&str> = text.split(',').map(str::trim).collect();
        for directive in &directives {
            let level = match directive.split_once('=') {
                Some((target, level)) if is_target(target) => level,
                Some(_) => return Err(Wrong::Form),
                None => directive,
            };
            if !LEVELS.contains(&level) {
                let near = super::nearest::nearest(level, LEVELS);
                return Err(
                    near.map_or(Wrong::Form, |near| Wrong::Because(format!("did you mean '{near}'?")))
                );
            }
        }
        Ok(Self(directives.join(",")))
    }

    fn show(&self) -> String {
        // Commas would end the value inside of a list; quotes cost nothing.
        yaml_text::scalar(&self.0)
    }
}

/// A filter from elsewhere than a file, held to the same form.
///
/// # Errors
/// What was expected.
pub fn log_filter(text: &str) -> Result<String, String> {
    match LogFilter::parse(text) {
        Ok(filter) if text.len() <= 1024 => Ok(filter.0),
        Ok(_) => Err("a filter has at most 1024 bytes".to_owned()),
        Err(Wrong::Form) => Err(format!("expected {}", LogFilter::expected())),
        Err(Wrong::Because(reason)) => Err(format!("expected {}; {reason}", LogFilter::expected())),
    }
}

fn is_target(target: &str) -> bool {
    !target.is_empty() && target.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trusted_keys() {
        let key = minisign::KeyPair::generate_unencrypted_keypair().unwrap().pk.to_base64();
        assert_eq!(TrustedKey::parse(&key), Ok(TrustedKey(key.clone())));
        for text in ["", "RWx", "minisign.pub", &key[1..], &format!("{key}="), &format!("{key} ")] {
            assert!(TrustedKey::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names() {
        for text in ["image-classifier", "1", "1.0.0", "a_b", &"x".repeat(MAX_NAME)] {
            assert!(Name::parse(text).is_ok(), "{text}");
        }
        for text in ["", ".", "..", "a/b", "a b", "ä", "a\0", &"x".repeat(MAX_NAME + 1)] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn choices() {
        assert_eq!(parse_choice("image"), Ok(Capability::Image));
        let because = |text: &str| Err(Wrong::Because(text.to_owned()));
        assert_eq!(parse_choice::<Capability>("imge"), because("did you mean 'image'?"));
        assert_eq!(parse_choice::<Capability>("text"), because("this version does not serve it yet"));
        assert_eq!(parse_choice::<Capability>("sockets"), Err(Wrong::Form));
        assert_eq!(Capability::expected(), "one of logging, bundle, image");
        assert!(Capability::ALL.into_iter().all(|one| parse_choice(one.as_str()) == Ok(one)));
    }

    #[test]
    fn filters() {
        assert_eq!(
            LogFilter::parse("info, nuke_host::plugin=debug").unwrap().as_str(),
            "info,nuke_host::plugin=debug"
        );
        for text in ["", "inf", "nuke_host", "=debug", "a=b", "info,", "a b=info"] {
            assert!(LogFilter::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn headers_are_lower_case() {
        assert_eq!(HeaderName::parse("Accept-Language"), Ok(HeaderName("accept-language".into())));
        assert!(["", "a b", "a:", "é", "a\n"].into_iter().all(|text| HeaderName::parse(text).is_err()));
    }
}
