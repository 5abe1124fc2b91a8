//! How `traffic` and `labels` are read.
//!
//! Owns the keys of each strategy. Whether a version that is named exists is for those who load it.

use std::time::Duration;

use super::names::{HeaderName, Name};
use super::nearest::nearest;
use super::section::Section;
use super::setting::{Text, Wrong};
use super::traffic::{
    BanditPolicy, Colour, Gates, Labels, Number, Reward, RolloutPolicy, ShadowPolicy, Share, Sticky,
    Strategy, TrafficPolicy, WeightedArm,
};
use super::yaml_text;

/// The most arms of a policy, and steps of a rollout: each request looks at every arm.
const MAX_ARMS: usize = 16;
/// The most labels of a model.
const MAX_LABELS: usize = 64;
/// The longest hold and half-life.
const MONTH: Duration = Duration::from_secs(31 * 24 * 3600);
const HOLD: Duration = Duration::from_secs(300);
const HALF_LIFE: Duration = Duration::from_secs(3600);

/// Decodes `labels`.
pub(super) fn labels(section: &mut Section<'_>) -> Labels {
    let check =
        |label: &str, version: &Name| is_word(label).and_then(|()| is_version(&version.0, &Labels::new()));
    let named = section.named_values::<Name>("labels", 0..=MAX_LABELS, check);
    let labels: Labels = named.into_iter().map(|(label, version)| (label, version.0)).collect();
    labels
}

/// Decodes `traffic`, or a policy by itself.
pub(super) fn policy(section: &mut Section<'_>, labels: &Labels) -> TrafficPolicy {
    match section.take("strategy", Strategy::Latest) {
        Strategy::Latest => TrafficPolicy::Latest,
        Strategy::Pinned => TrafficPolicy::Pinned { version: version(section, "version", labels) },
        Strategy::Split => {
            let check =
                |name: &str, weight: &Number| is_version(name, labels).and_then(|()| is_weight(weight));
            TrafficPolicy::Split {
                weights: section.named_values("weights", 1..=MAX_ARMS, check),
                sticky: section.take("sticky", Sticky::None),
            }
        }
        Strategy::Ab => {
            let arm = |section: &mut Section<'_>| WeightedArm {
                version: version(section, "version", labels),
                weight: section.take_if("weight", Number::new(1.0), is_weight),
            };
            TrafficPolicy::Ab {
                arms: section.named_sections("arms", 1..=MAX_ARMS, is_word, arm),
                sticky: section.take("sticky", Sticky::None),
            }
        }
        Strategy::Shadow => shadow(section, labels),
        Strategy::BlueGreen => TrafficPolicy::BlueGreen {
            blue: version(section, "blue", labels),
            green: version(section, "green", labels),
            active: section.take("active", Colour::Blue),
        },
        Strategy::Bandit => bandit(section, labels),
        Strategy::Rollout => rollout(section, labels),
    }
}

/// Weights are summed up, and divided by the sum.
fn is_weight(weight: &Number) -> Result<(), String> {
    match (1e-6..=1e9).contains(&weight.get()) {
        true => Ok(()),
        false => Err(format!("expected a weight from 0.000001 to 1000000000, got {weight}")),
    }
}

fn shadow(section: &mut Section<'_>, labels: &Labels) -> TrafficPolicy {
    let primary = version(section, "primary", labels);
    let differs = |mirror: &str| match mirror == primary {
        true => Err("is the primary itself; name another version".to_owned()),
        false => Ok(()),
    };
    TrafficPolicy::Shadow(ShadowPolicy {
        mirror: version_if(section, "mirror", labels, differs),
        primary: primary.clone(),
        share: section.take("share", Share::WHOLE),
        tolerance: section.section("compare", |section| section.take("tolerance", Number::new(1e-3))),
        max_in_flight: section.take_in("max_in_flight", 1, 1..=1024),
        budget: section.take("budget", Share::percent(5.0)),
    })
}

fn bandit(section: &mut Section<'_>, labels: &Labels) -> TrafficPolicy {
    let arm = |section: &mut Section<'_>| version(section, "version", labels);
    let arms = section.named_sections("arms", 2..=MAX_ARMS, is_word, arm);
    let count = arms.len().max(1);
    let fits = |share: &Share| match share.fraction() * count as f64 <= 1.0 {
        true => Ok(()),
        false => Err(format!("{count} arms cannot get {share} each; lower it")),
    };
    TrafficPolicy::Bandit(BanditPolicy {
        reward: section.take("reward", Reward::Feedback),
        min_share: section.take_if("min_share", Share::percent(1.0), fits),
        half_life: section.take_in("half_life", HALF_LIFE, Duration::from_secs(1)..=MONTH),
        arms,
    })
}

fn rollout(section: &mut Section<'_>, labels: &Labels) -> TrafficPolicy {
    let named = section.is_given("stable") || section.is_given("canary");
    let pair = match named {
        true => {
            let stable = version(section, "stable", labels);
            let differs = |canary: &str| match canary == stable {
                true => Err("is the stable version itself; name another one".to_owned()),
                false => Ok(()),
            };
            let canary = version_if(section, "canary", labels, differs);
            Some((stable, canary))
        }
        false => {
            section.take::<Option<Name>>("stable", None);
            section.take::<Option<Name>>("canary", None);
            None
        }
    };
    let steps: Vec<Share> = [1.0, 10.0, 50.0, 100.0].into_iter().map(Share::percent).collect();
    TrafficPolicy::Rollout(RolloutPolicy {
        pair,
        steps: section.take_if("steps", steps, |steps| rising(steps)),
        hold: section.take_in("hold", HOLD, Duration::from_secs(1)..=MONTH),
        gates: section.section("gates", gates),
        sticky: section.take("sticky", Sticky::None),
    })
}

fn gates(section: &mut Section<'_>) -> Gates {
    let default = Gates::default();
    let above_one = |ratio: &Option<Number>| match ratio {
        Some(ratio) if ratio.get() < 1.0 => Err(format!("expected at least 1, got {ratio}")),
        _ => Ok(()),
    };
    Gates {
        max_error_rate: section.take("max_error_rate", default.max_error_rate),
        error_ratio: section.take_if("error_ratio", default.error_ratio, above_one),
        refusal_ratio: section.take_if("refusal_ratio", default.refusal_ratio, above_one),
        latency_ratio: section.take_if("latency_ratio", default.latency_ratio, above_one),
        latency_slack: section.take_in("latency_slack", default.latency_slack, Duration::ZERO..=MONTH),
        latency_quantile: section.take("latency_quantile", default.latency_quantile),
        min_requests: section.take_in("min_requests", default.min_requests, 1..=1_000_000_000),
    }
}

fn rising(steps: &[Share]) -> Result<(), String> {
    let rises = steps.windows(2).all(|pair| pair[0] < pair[1]);
    match rises && steps.len() <= MAX_ARMS && steps.last() == Some(&Share::WHOLE) {
        true => Ok(()),
        false => Err(format!("expected at most {MAX_ARMS} rising shares, the last one 100%")),
    }
}

/// A version or a label, which must be given.
fn version(section: &mut Section<'_>, key: &'static str, labels: &Labels) -> String {
    version_if(section, key, labels, |_| Ok(()))
}

fn version_if(
    section: &mut Section<'_>,
    key: &'static str,
    labels: &Labels,
    check: impl FnOnce(&str) -> Result<(), String>,
) -> String {
    let check = |name: &Name| is_version(&name.0, labels).and_then(|()| check(&name.0));
    section.require_if::<Name>(key, check).map(|name| name.0).unwrap_or_default()
}

/// Versions begin with a digit, labels with a letter.
fn is_version(name: &str, labels: &Labels) -> Result<(), String> {
    Name::parse(name).map_err(|_| format!("expected a version or a label, got '{name}'"))?;
    if name.starts_with(|first: char| first.is_ascii_digit()) || labels.contains_key(name) {
        return Ok(());
    }
    let hint = nearest(name, labels.keys().map(String::as_str)).map_or_else(
        || "name a version, or add it to labels".to_owned(),
        |near| format!("did you mean '{near}'?"),
    );
    Err(format!("there is no label '{name}'; {hint}"))
}

/// The name of a label or an arm.
fn is_word(name: &str) -> Result<(), String> {
    let valid = Name::parse(name).is_ok() && name.starts_with(|first: char| first.is_ascii_alphabetic());
    if valid {
        return Ok(());
    }
    Err("expected a name that begins with a letter, so that it is never taken for a version".to_owned())
}

impl Text for Sticky {
    fn expected() -> String {
        "one of none, header:NAME, cookie:NAME, jwt:sub, body".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "none" => return Ok(Self::None),
            "body" => return Ok(Self::Body),
            "jwt:sub" => return Ok(Self::JwtSubject),
            _ => {}
        }
        match text.split_once(':') {
            Some(("header", name)) => Ok(Self::Header(HeaderName::parse(name)?.0)),
            // A cookie's name has the characters of a header's, and is not the same in capitals.
            Some(("cookie", name)) => HeaderName::parse(name).map(|_| Self::Cookie(name.to_owned())),
            Some(("jwt", _)) => Err(Wrong::Because("of a token, only 'sub' is used".to_owned())),
            _ => Err(Wrong::Form),
        }
    }

    fn show(&self) -> String {
        let text = match self {
            Self::None => "none".to_owned(),
            Self::Header(name) => format!("header:{name}"),
            Self::Cookie(name) => format!("cookie:{name}"),
            Self::JwtSubject => "jwt:sub".to_owned(),
            Self::Body => "body".to_owned(),
        };
        yaml_text::word(&text)
    }
}
