//! `traffic` and `labels` of `model.yaml`: which version answers which request.
//!
//! Owns the policies as plain data and the forms of their values. How they are carried out is in
//! `crate::traffic`; how they are read is in `traffic_decode`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::setting::{Choice, Text, Wrong};

/// `labels`: names for versions, usable wherever a version is asked for. A label begins with a letter,
/// so that it is never taken for a version.
pub type Labels = BTreeMap<String, String>;

/// `traffic`: which version answers a request that names none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// `latest`, the default: the latest version that is ready.
    #[default]
    Latest,
    /// `pinned`: this version or label, and no other.
    Pinned {
        /// A version or a label.
        version: String,
    },
    /// `split`: versions by weight.
    Split {
        /// Versions or labels with their relative weights, in the file's order.
        weights: Vec<(String, Number)>,
        /// What keeps a client at its version.
        sticky: Sticky,
    },
    /// `ab`: named arms by weight.
    Ab {
        /// The arms, in the file's order.
        arms: Vec<(String, WeightedArm)>,
        /// What keeps a client at its arm.
        sticky: Sticky,
    },
    /// `shadow`: one version answers, another one gets a copy.
    Shadow(ShadowPolicy),
    /// `blue-green`: one of two versions answers, the other one is kept warm.
    BlueGreen {
        /// A version or a label.
        blue: String,
        /// A version or a label.
        green: String,
        /// Which of the two answers.
        active: Colour,
    },
    /// `bandit`: the arm that earns more gets more.
    Bandit(BanditPolicy),
    /// `rollout`: a new version in steps, as long as it does no worse.
    Rollout(RolloutPolicy),
}

/// One arm of `ab`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedArm {
    /// A version or a label.
    pub version: String,
    /// Its weight, relative to those of the other arms; default 1.
    pub weight: Number,
}

/// `shadow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowPolicy {
    /// The version or label that answers.
    pub primary: String,
    /// The version or label that gets a copy; what it answers is compared and dropped.
    pub mirror: String,
    /// How many of the requests are copied; default 100 %.
    pub share: Share,
    /// `compare.tolerance`, default 1e-3: how far numbers may be apart, relative to the greater one
    /// (absolute below 1).
    pub tolerance: Number,
    /// `max_in_flight`, default 1: copies at a time; further ones are not made.
    pub max_in_flight: usize,
    /// `budget`, default 5 %: the part of the time that copies may take; after one that took long, none is
    /// made for a while. Raise it where cores are idle, to see more of the mirror.
    pub budget: Share,
}

/// `bandit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanditPolicy {
    /// The arms' names with the version or label of each, in the file's order.
    pub arms: Vec<(String, String)>,
    /// What an arm earns.
    pub reward: Reward,
    /// `min_share`, default 1 %: what every arm gets, so that it can show that it has become better.
    pub min_share: Share,
    /// `half_life`, default 1 h: how soon what was seen counts half.
    pub half_life: Duration,
}

/// `rollout`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutPolicy {
    /// `stable` and `canary`, versions or labels; without them each new version is rolled out against
    /// the one that was promoted last.
    pub pair: Option<(String, String)>,
    /// `steps`: the canary's shares, rising, the last one 100 %.
    pub steps: Vec<Share>,
    /// `hold`, default 5 min: how long each step lasts at least.
    pub hold: Duration,
    /// `gates`: what the canary has to keep to.
    pub gates: Gates,
    /// What keeps a client at its version.
    pub sticky: Sticky,
}

impl RolloutPolicy {
    /// The canary's share at a step, from 0; the whole after the last one.
    pub fn share(&self, step: usize) -> f64 {
        self.steps.get(step).map_or(1.0, |share| share.fraction())
    }
}

/// `gates`: what a canary has to keep to at each step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gates {
    /// `max_error_rate`, default 1 %: of its requests, how many may fail.
    pub max_error_rate: Option<Share>,
    /// `error_ratio`, default 2: how many times as often as the stable version it may fail.
    pub error_ratio: Option<Number>,
    /// `refusal_ratio`, default 2: how many times as often as the stable version it may refuse requests as wrong.
    pub refusal_ratio: Option<Number>,
    /// `latency_ratio`, default 1.2: how many times as long as the stable version it may take.
    pub latency_ratio: Option<Number>,
    /// `latency_slack`, default 1 ms: it may take so much longer whatever the ratio.
    pub latency_slack: Duration,
    /// `latency_quantile`, default p95: at which quantile.
    pub latency_quantile: Quantile,
    /// `min_requests`, default 100: without that many of each version there is no judgement.
    pub min_requests: u64,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            max_error_rate: Some(Share(1.0)),
            error_ratio: Some(Number(2.0)),
            refusal_ratio: Some(Number(2.0)),
            latency_ratio: Some(Number(1.2)),
            latency_slack: Duration::from_millis(1),
            latency_quantile: Quantile(95.0),
            min_requests: 100,
        }
    }
}

impl TrafficPolicy {
    /// The strategy's name.
    pub fn strategy(&self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Pinned { .. } => "pinned",
            Self::Split { .. } => "split",
            Self::Ab { .. } => "ab",
            Self::Shadow(_) => "shadow",
            Self::BlueGreen { .. } => "blue-green",
            Self::Bandit(_) => "bandit",
            Self::Rollout(_) => "rollout",
        }
    }

    /// What keeps a client at its version.
    pub fn sticky(&self) -> &Sticky {
        match self {
            Self::Split { sticky, .. } | Self::Ab { sticky, .. } => sticky,
            Self::Rollout(rollout) => &rollout.sticky,
            _ => &Sticky::None,
        }
    }

    /// The versions and labels that it names.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Latest => Vec::new(),
            Self::Pinned { version } => vec![version],
            Self::Split { weights, .. } => weights.iter().map(|(version, _)| version.as_str()).collect(),
            Self::Ab { arms, .. } => arms.iter().map(|(_, arm)| arm.version.as_str()).collect(),
            Self::Shadow(shadow) => vec![&shadow.primary, &shadow.mirror],
            Self::BlueGreen { blue, green, .. } => vec![blue, green],
            Self::Bandit(bandit) => bandit.arms.iter().map(|(_, version)| version.as_str()).collect(),
            Self::Rollout(rollout) => {
                rollout.pair.iter().flat_map(|(stable, canary)| [stable.as_str(), canary]).collect()
            }
        }
    }

    /// What has to be loaded for it whatever `versions` says, and `with_labels` for all labels too.
    pub fn also_wanted(&self, labels: &Labels, with_labels: bool) -> AlsoWanted {
        let resolve = |name: &str| labels.get(name).map_or(name, String::as_str).to_owned();
        let labelled = labels.values().filter(|_| with_labels).cloned();
        let names = self.names().into_iter().map(resolve).chain(labelled).collect();
        // Without names, a rollout takes the latest version and the one before.
        let by_itself = matches!(self, Self::Rollout(rollout) if rollout.pair.is_none());
        AlsoWanted { names, latest: if by_itself { 2 } else { 0 } }
    }
}

/// Versions that are to be loaded besides those that `versions` selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlsoWanted {
    /// These, by name.
    pub names: BTreeSet<String>,
    /// The so many latest ones.
    pub latest: usize,
}

/// What keeps a client at its arm: equal keys get the same arm as long as the shares stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sticky {
    /// `none`: each request is given out by itself.
    #[default]
    None,
    /// `header:NAME`, in lower case.
    Header(String),
    /// `cookie:NAME`.
    Cookie(String),
    /// `jwt:sub`: the subject of a verified token.
    JwtSubject,
    /// `body`: the bytes of the request's body.
    Body,
}

/// One of two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// The one.
    Blue,
    /// The other one.
    Green,
}

impl Colour {
    /// The colour's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }

    /// The colour that this one is not.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }
}

impl Choice for Colour {
    const WORDS: &'static [(&'static str, Self)] = &[("blue", Self::Blue), ("green", Self::Green)];
}

/// What an arm of a bandit earns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reward {
    /// What is posted for it, 0 to 1.
    Feedback,
    /// Short latency; failures make it longer.
    Latency,
    /// Requests that do not fail.
    Errors,
}

impl Choice for Reward {
    const WORDS: &'static [(&'static str, Self)] =
        &[("feedback", Self::Feedback), ("latency", Self::Latency), ("errors", Self::Errors)];
}

/// The strategies' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    Latest,
    Pinned,
    Split,
    Ab,
    Shadow,
    BlueGreen,
    Bandit,
    Rollout,
}

impl Choice for Strategy {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("latest", Self::Latest),
        ("pinned", Self::Pinned),
        ("split", Self::Split),
        ("ab", Self::Ab),
        ("shadow", Self::Shadow),
        ("blue-green", Self::BlueGreen),
        ("bandit", Self::Bandit),
        ("rollout", Self::Rollout),
    ];
}

/// A part of a whole, above 0 % and up to 100 %; kept as it was written.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f64);

/// A positive, finite number.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Number(f64);

/// A quantile, `p95`; kept in percent.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Quantile(f64);

// None of them is ever NaN.
impl Eq for Share {}
impl Eq for Number {}
impl Eq for Quantile {}

impl Share {
    /// The whole.
    pub const WHOLE: Self = Self(100.0);

    /// A number of percent, above 0 and up to 100.
    pub(crate) const fn percent(percent: f64) -> Self {
        Self(percent)
    }

    /// The part, above 0 and up to 1.
    pub fn fraction(self) -> f64 {
        self.0 / 100.0
    }
}

impl Number {
    /// A number that is known to be positive and finite.
    pub(crate) const fn new(number: f64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Quantile {
    /// The part of the values that lie below it, between 0 and 1.
    pub fn fraction(self) -> f64 {
        self.0 / 100.0
    }
}

/// A number that begins with a digit: neither a sign, `inf` nor `nan`.
fn number(text: &str) -> Result<f64, Wrong> {
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(Wrong::Form);
    }
    let number: f64 = text.parse().map_err(|_| Wrong::Form)?;
    if number.is_finite() { Ok(number) } else { Err(Wrong::Because("it is too large".to_owned())) }
}

impl Text for Share {
    fn expected() -> String {
        "a share like 10%, above 0% and at most 100%".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let Some(percent) = text.strip_suffix('%') else {
            let missing = number(text).is_ok();
            return Err(if missing { Wrong::Because("the % is missing".to_owned()) } else { Wrong::Form });
        };
        match number(percent)? {
            percent if percent > 0.0 && percent <= 100.0 => Ok(Self(percent)),
            _ => Err(Wrong::Form),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Text for Number {
    fn expected() -> String {
        "a number above 0 like 1.2, 90 or 1e-3".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        match number(text)? {
            number if number > 0.0 => Ok(Self(number)),
            _ => Err(Wrong::Form),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Text for Quantile {
    fn expected() -> String {
        "a quantile like p50, p95 or p99.9".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        match number(text.strip_prefix('p').ok_or(Wrong::Form)?)? {
            percent if percent > 0.0 && percent < 100.0 => Ok(Self(percent)),
            _ => Err(Wrong::Form),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl std::fmt::Display for Quantile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p{}", self.0)
    }
}
