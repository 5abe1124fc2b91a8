//! What became of a request at the cache, for whoever tells the client.
//!
//! Owns the words of RFC 9211. They tell of the request's own answer, and of no other one.

use std::fmt::Write as _;
use std::time::Duration;

use crate::telemetry::CacheLevel;

/// Why an answer was not a remembered one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There was none.
    Miss,
    /// There was one whose time was over.
    Stale,
    /// The request did not take the one that was there, or any.
    Request,
    /// Neither looked for nor remembered, as the request asks.
    Bypass,
    /// The same, as answers are remembered for each caller, and this one has not shown who it is.
    Anonymous,
}

impl Why {
    const fn as_str(self) -> &'static str {
        match self {
            // The address of a model says little: all of a request is what was missed.
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Request => "request",
            Self::Bypass | Self::Anonymous => "bypass",
        }
    }

    /// Whether the answers that are remembered had no part in it.
    pub const fn is_bypass(self) -> bool {
        matches!(self, Self::Bypass | Self::Anonymous)
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// A remembered answer was given.
    Hit {
        /// From where.
        level: CacheLevel,
        /// How old it is.
        age: Duration,
        /// For how long it is fresh.
        ttl: Duration,
    },
    /// The answer was computed.
    Computed {
        /// Why.
        why: Why,
        /// For another request that asked the same at the same time.
        collapsed: bool,
        /// It is remembered now.
        stored: bool,
        /// The model's part of it was a remembered one.
        model_hit: bool,
    },
    /// None was remembered, and none was to be computed.
    Absent,
}

impl Story {
    /// Whether the answer came without a computation of its own.
    pub fn is_hit(&self) -> bool {
        matches!(self, Self::Hit { .. } | Self::Computed { collapsed: true, .. })
    }

    /// Whether a remembered answer was given that is past its time.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Hit { age, ttl, .. } if age >= ttl)
    }

    /// How old the answer is; `None` for one that is new.
    pub fn age(&self) -> Option<Duration> {
        match self {
            Self::Hit { age, .. } => Some(*age),
            _ => None,
        }
    }

    /// Its name in a log.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Hit { .. } if self.is_stale() => "stale",
            Self::Hit { .. } => "hit",
            Self::Computed { collapsed: true, .. } => "collapsed",
            Self::Computed { why, .. } => why.as_str(),
            Self::Absent => "absent",
        }
    }

    /// The value of `cache-status`.
    pub fn status(&self) -> String {
        let mut text = String::from("nuke");
        match self {
            Self::Hit { level, age, ttl } => {
                // Rounded down, so that what is past its time is below 0.
                let millis = |time: &Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
                let left = millis(ttl).saturating_sub(millis(age)).div_euclid(1000);
                // A string into a string cannot fail.
                let _ = write!(text, "; hit; ttl={left}; detail={}", level.as_str());
            }
            Self::Computed { why, collapsed, stored, model_hit } => {
                let _ = write!(text, "; fwd={}", why.as_str());
                let is_anonymous = *why == Why::Anonymous;
                let said = [
                    (*stored, "; stored"),
                    (*collapsed, "; collapsed"),
                    (*model_hit, "; detail=model-hit"),
                    (is_anonymous, "; detail=anonymous"),
                ];
                said.iter().filter(|(is, _)| *is).for_each(|(_, word)| text.push_str(word));
            }
            Self::Absent => text.push_str("; detail=only-if-cached"),
        }
        text
    }
}
