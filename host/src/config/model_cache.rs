//! `cache` in `model.yaml`: which of a model's answers are remembered, and for how long.

use std::time::Duration;

use super::quantity::{ByteSize, duration_text};
use super::section::Section;
use super::setting::Choice;

/// `cache`: whether and how a model's answers are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    /// `ttl`, default none, and then nothing is remembered: how long an answer may be given again. Long for what
    /// depends on the request alone; short for a plugin that looks at a clock or draws numbers.
    pub ttl: Option<Duration>,
    /// `max_entry`, default 4 MiB: an answer of more bytes is not remembered.
    pub max_entry: ByteSize,
    /// `scope`, default shared: who gets an answer that somebody asked for.
    pub scope: CacheScope,
    /// `stale`, default 0: for how long after its `ttl` an answer is still given at once, while it is computed anew
    /// in the background.
    pub stale: Duration,
    /// `negative`, default 0: how long a plugin's refusal of a request is remembered.
    pub negative: Duration,
    /// `compress`, default none: what answers are compressed with that leave the host's memory.
    pub compress: CacheCompression,
}

impl Default for CachePolicy {
    /// What is in effect without a `cache` in `model.yaml`.
    fn default() -> Self {
        Self {
            ttl: None,
            max_entry: ByteSize::mib(4),
            scope: CacheScope::Shared,
            stale: Duration::ZERO,
            negative: Duration::ZERO,
            compress: CacheCompression::None,
        }
    }
}

/// `cache.scope`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheScope {
    /// Everybody.
    Shared,
    /// Only the caller who asked for it; nobody, if that one has not shown who it is.
    Caller,
}

impl Choice for CacheScope {
    const WORDS: &'static [(&'static str, Self)] = &[("shared", Self::Shared), ("caller", Self::Caller)];
}

/// `cache.compress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheCompression {
    /// They are stored as they are.
    None,
    /// By zstd, where that makes them shorter.
    Zstd,
}

impl Choice for CacheCompression {
    const WORDS: &'static [(&'static str, Self)] = &[("none", Self::None), ("zstd", Self::Zstd)];
}

const MILLI: Duration = Duration::from_millis(1);
const MONTH: Duration = Duration::from_secs(31 * 24 * 3600);

/// Decodes the section.
pub(super) fn decode(section: &mut Section<'_>) -> CachePolicy {
    let default = CachePolicy::default();
    let ttl = section.take_if("ttl", default.ttl, |ttl: &Option<Duration>| match ttl {
        Some(ttl) if !(MILLI..=MONTH).contains(ttl) => {
            Err(format!("expected null or 1ms to {}, got {}", duration_text(MONTH), duration_text(*ttl)))
        }
        _ => Ok(()),
    });
    let needs_ttl = |time: &Duration| match (ttl, time) {
        (None, time) if !time.is_zero() => {
            Err("without cache.ttl nothing is remembered; set that, too".to_owned())
        }
        (_, time) if *time > MONTH => {
            Err(format!("expected 0ms to {}, got {}", duration_text(MONTH), duration_text(*time)))
        }
        _ => Ok(()),
    };
    CachePolicy {
        ttl,
        max_entry: section.take_in("max_entry", default.max_entry, ByteSize::bytes(1)..=ByteSize::mib(1024)),
        scope: section.take("scope", default.scope),
        stale: section.take_if("stale", default.stale, needs_ttl),
        negative: section.take_if("negative", default.negative, needs_ttl),
        compress: section.take("compress", default.compress),
    }
}
