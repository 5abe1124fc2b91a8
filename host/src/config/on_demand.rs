//! `load` and `idle`: whether versions are in memory all the time, or come when they are asked for.

use std::time::Duration;

use super::quantity::duration_text;
use super::section::Section;
use super::setting::{At, Choice, Setting, Text};
use super::tree::{Node, Value};

/// When a version is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LoadPolicy {
    /// As soon as it is there, and it stays.
    #[default]
    Eager,
    /// It is validated as soon as it is there, and loaded at its first request; it may be unloaded again.
    Lazy,
}

impl Choice for LoadPolicy {
    const WORDS: &'static [(&'static str, Self)] = &[("eager", Self::Eager), ("lazy", Self::Lazy)];
}

/// How long what is loaded on demand may lie unused before it is unloaded though there is room for it; `None`
/// for ever.
pub type IdleLimit = Option<Duration>;

/// `load` and `idle` of a model; what it leaves open is as the repository has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnDemand {
    /// `load`, default `repository.load`.
    pub load: Option<LoadPolicy>,
    /// `idle`, default `repository.idle`.
    pub idle: Option<IdleLimit>,
}

impl OnDemand {
    /// With what is left open as the repository has it.
    #[must_use]
    pub fn or(self, default: Self) -> Self {
        Self { load: self.load.or(default.load), idle: self.idle.or(default.idle) }
    }

    /// Whether versions are loaded at their first request.
    pub fn is_lazy(&self) -> bool {
        self.load == Some(LoadPolicy::Lazy)
    }

    /// How long one of them may lie unused; `None` for ever.
    pub fn idle(&self) -> IdleLimit {
        self.idle.flatten().filter(|_| self.is_lazy())
    }
}

/// The shortest idle time: what is unloaded must be worth the load.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// A bound, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OrOff<T>(pub(super) Option<T>);

impl<T: Text> Setting for OrOff<T> {
    fn expected() -> String {
        format!("{}, or off", <T as Text>::expected())
    }

    fn read(node: &Node, at: &mut At<'_>) -> Option<Self> {
        match &node.value {
            Value::Scalar { text, .. } if text == "off" => Some(Self(None)),
            _ => <T as Setting>::read(node, at).map(|bound| Self(Some(bound))),
        }
    }

    fn show(&self) -> String {
        self.0.as_ref().map_or_else(|| "off".to_owned(), <T as Text>::show)
    }
}

/// The keys of `model.yaml`.
pub(super) fn of_model(section: &mut Section<'_>) -> OnDemand {
    let idle = section.take_if("idle", None, |idle: &Option<OrOff<Duration>>| match idle {
        Some(idle) => check_idle(idle),
        None => Ok(()),
    });
    OnDemand { load: section.take("load", None), idle: idle.map(|idle| idle.0) }
}

/// The keys of `config.yaml`.
pub(super) fn of_repository(section: &mut Section<'_>) -> OnDemand {
    let load = section.take("load", LoadPolicy::Eager);
    OnDemand { load: Some(load), idle: Some(section.take_if("idle", OrOff(None), check_idle).0) }
}

fn check_idle(idle: &OrOff<Duration>) -> Result<(), String> {
    let show = duration_text;
    match idle.0 {
        Some(idle) if !(SHORTEST..=LONGEST).contains(&idle) => {
            Err(format!("expected {} to {}, or off, got {}", show(SHORTEST), show(LONGEST), show(idle)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_leaves_open_is_as_the_repository_has_it() {
        let lazy = OnDemand { load: Some(LoadPolicy::Lazy), idle: Some(Some(SHORTEST)) };
        assert_eq!(OnDemand::default().or(lazy), lazy);
        let never = OnDemand { load: None, idle: Some(None) };
        assert_eq!((never.or(lazy).is_lazy(), never.or(lazy).idle()), (true, None));
        let eager = OnDemand { load: Some(LoadPolicy::Eager), idle: None };
        assert_eq!((eager.or(lazy).is_lazy(), eager.or(lazy).idle()), (false, None));
        assert!(!OnDemand::default().is_lazy());
    }
}
