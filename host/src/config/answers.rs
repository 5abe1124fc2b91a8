//! `server.compression`, `server.cors` and `server.server_timing`: what answers have beyond what was asked for.
//!
//! Owns these settings with their defaults and forms.

use std::time::Duration;

use super::names::HeaderName;
use super::quantity::ByteSize;
use super::section::Section;
use super::setting::{Choice, Text, Wrong, expected_choice, parse_choice, show_choice};
use super::yaml_text;

/// `server.compression`: answers that go compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompressionSettings {
    /// `answers`, default true: compress answers whose clients ask for it and that become shorter. Off where
    /// clients that ask by habit sit on the same fast network.
    pub answers: bool,
    /// `min_size`, default 4 KiB: answers of fewer bytes go as they are.
    pub min_size: ByteSize,
}

/// `server.cors`: which web pages of other origins may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsSettings {
    /// `origins`, default none: `https://app.example.com`, or `*` for all pages.
    pub origins: Vec<String>,
    /// `methods`, default GET, POST: what they may ask with.
    pub methods: Vec<String>,
    /// `headers`: the request headers that they may send.
    pub headers: Vec<String>,
    /// `max_age`, default 10 min: how long browsers remember all this.
    pub max_age: Duration,
}

/// `server.server_timing`: who is told where an answer's time went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerTiming {
    /// Nobody.
    Off,
    /// Requests with the header `x-nuke-server-timing`.
    Asked,
    /// Everybody.
    On,
}

impl Choice for ServerTiming {
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("asked", Self::Asked), ("on", Self::On)];
}

impl Text for ServerTiming {
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

/// `https://app.example.com`, `http://localhost:3000`, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin(String);

impl Text for Origin {
    fn expected() -> String {
        "an origin like https://app.example.com, with its port if it has one and without a path, or '*'"
            .to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let is_host = |host: &str| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@\\,*\"".contains(&byte))
        };
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        if text == "*" || host.is_some_and(is_host) {
            // Browsers send it in lower case.
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(Wrong::Form)
    }

    fn show(&self) -> String {
        yaml_text::scalar(&self.0)
    }
}

/// A method's name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Method(String);

impl Text for Method {
    fn expected() -> String {
        "a method like POST".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let is_method = (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase());
        if is_method { Ok(Self(text.to_owned())) } else { Err(Wrong::Form) }
    }

    fn show(&self) -> String {
        yaml_text::scalar(&self.0)
    }
}

/// The headers that a page's requests may need.
const HEADERS: [&str; 7] = [
    "authorization",
    "content-encoding",
    "content-type",
    "inference-header-content-length",
    "traceparent",
    "x-api-key",
    "x-request-id",
];

pub(super) fn compression(section: &mut Section<'_>) -> CompressionSettings {
    let sizes = ByteSize::bytes(0)..=ByteSize::mib(1024);
    CompressionSettings {
        answers: section.take("answers", true),
        min_size: section.take_in("min_size", ByteSize::kib(4), sizes),
    }
}

pub(super) fn cors(section: &mut Section<'_>) -> CorsSettings {
    let headers = HEADERS.map(|name| HeaderName(name.to_owned())).to_vec();
    let methods = ["GET", "POST"].map(|method| Method(method.to_owned())).to_vec();
    let ages = Duration::ZERO..=Duration::from_secs(24 * 3600);
    CorsSettings {
        origins: section.take("origins", Vec::<Origin>::new()).into_iter().map(|origin| origin.0).collect(),
        methods: section.take("methods", methods).into_iter().map(|method| method.0).collect(),
        headers: section.take("headers", headers).into_iter().map(|name| name.0).collect(),
        max_age: section.take_in("max_age", Duration::from_secs(600), ages),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        for (text, origin) in [
            ("https://app.example.com", "https://app.example.com"),
            ("http://LOCALHOST:3000", "http://localhost:3000"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("*", "*"),
        ] {
            assert_eq!(Origin::parse(text), Ok(Origin(origin.to_owned())), "{text}");
        }
        for text in [
            "",
            "null",
            "app.example.com",
            "https://",
            "https://a/",
            "https://*.a",
            "ftp://a",
            "https://a b",
            "https://u@a",
        ] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
        assert!(
            Method::parse("PATCH").is_ok() && Method::parse("get").is_err() && Method::parse("").is_err()
        );
    }
}
