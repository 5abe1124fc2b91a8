//! `limits` in `config.yaml`: how much each caller and each model may be asked for.

use super::cache::check_shared;
use super::names_auth::{ByteRate, Network, Rate, Word};
use super::quantity::ByteSize;
use super::section::Section;

/// `limits`: how much each caller and each model may be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitSettings {
    /// `identity`: of each caller that has shown who it is.
    pub identity: LimitEntry,
    /// `anonymous`: of each address of callers that have not.
    pub anonymous: LimitEntry,
    /// `model`: of each model, from all callers together.
    pub model: LimitEntry,
    /// `identities`, default none: of single callers by their subject, in place of `identity`.
    pub identities: Vec<(String, LimitEntry)>,
    /// `models`, default none: of single models by their name, in place of `model`.
    pub models: Vec<(String, LimitEntry)>,
    /// `trusted_proxies`, default none: whose `x-forwarded-for` is believed.
    pub trusted_proxies: Vec<Network>,
    /// `tracked`, default 100000: callers whose rates are kept at a time. Each costs some 300 bytes.
    pub tracked: usize,
    /// `redis`, default off: rates of requests and bytes are those of all nodes together that share `cache.redis`.
    pub redis: bool,
}

/// The limits of one caller or model; what is not given is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitEntry {
    /// `requests`, default none: requests in a time.
    pub requests: Option<Rate>,
    /// `burst`, default the count of `requests`: requests that may come at once.
    pub burst: Option<u32>,
    /// `concurrent`, default none: inference requests at a time.
    pub concurrent: Option<usize>,
    /// `bytes`, default none: bytes of requests' bodies in a time.
    pub bytes: Option<ByteRate>,
    /// `burst_bytes`, default the larger of `bytes` and `server.max_body`: bytes that may come at once.
    pub burst_bytes: Option<ByteSize>,
}

/// Callers and models that may have limits of their own.
const MOST_NAMED: usize = 1024;

/// Decodes `limits`. `has_redis`: there is a Redis to share rates by.
pub(super) fn limits(section: &mut Section<'_>, has_redis: bool) -> LimitSettings {
    LimitSettings {
        identity: section.section("identity", entry),
        anonymous: section.section("anonymous", entry),
        model: section.section("model", entry),
        identities: section.named_sections("identities", 0..=MOST_NAMED, is_word, entry),
        models: section.named_sections("models", 0..=MOST_NAMED, is_word, entry),
        trusted_proxies: section.take("trusted_proxies", Vec::new()),
        tracked: section.take_in("tracked", 100_000, 16..=10_000_000),
        redis: section.take_if("redis", false, |redis| check_shared(*redis, has_redis)),
    }
}

fn is_word(name: &str) -> Result<(), String> {
    <Word as super::setting::Text>::parse(name)
        .map(|_| ())
        .map_err(|_| "is no name of a caller or model".to_owned())
}

fn entry(section: &mut Section<'_>) -> LimitEntry {
    LimitEntry {
        requests: section.take("requests", None),
        burst: section.take_if("burst", None, |burst: &Option<u32>| match burst {
            Some(burst) if !(1..=10_000_000).contains(burst) => {
                Err(format!("expected 1 to 10000000, got {burst}"))
            }
            _ => Ok(()),
        }),
        concurrent: section.take_if("concurrent", None, |concurrent: &Option<usize>| match concurrent {
            Some(concurrent) if !(1..=1_000_000).contains(concurrent) => {
                Err(format!("expected 1 to 1000000, got {concurrent}"))
            }
            _ => Ok(()),
        }),
        bytes: section.take("bytes", None),
        burst_bytes: section.take_if("burst_bytes", None, |size: &Option<ByteSize>| match size {
            Some(size) if !(ByteSize::kib(1)..=ByteSize::mib(1 << 20)).contains(size) => {
                Err(format!("expected 1KiB to 1TiB, got {size}"))
            }
            _ => Ok(()),
        }),
    }
}
