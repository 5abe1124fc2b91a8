//! Keys that the design names and this version does not serve yet.
//!
//! They are refused like any other problem, but by name: an operator who copies them from the
//! design learns that they are early, not that they mistyped. A key leaves its table with the
//! version that serves it.

/// A key of the design.
pub(super) struct Later {
    /// Its path, indices left out.
    pub(super) pattern: &'static str,
    /// What it will be for.
    purpose: &'static str,
}

impl Later {
    const fn new(pattern: &'static str, purpose: &'static str) -> Self {
        Self { pattern, purpose }
    }

    /// What an operator is told.
    pub(super) fn message(&self) -> String {
        format!("this version does not serve {} yet; remove '{}'", self.purpose, self.pattern)
    }
}

/// In `config.yaml`.
pub(super) const SERVER: &[Later] = &[];

/// In `model.yaml`.
pub(super) const MODEL: &[Later] = &[];

/// In `bundle.yaml`.
pub(super) const BUNDLE: &[Later] = &[
    Later::new("inputs", "a mapping of input tensors"),
    Later::new("outputs", "a mapping of output tensors"),
];

/// The entry of a table for a path without indices.
pub(super) fn find(table: &'static [Later], pattern: &str) -> Option<&'static Later> {
    table.iter().find(|later| later.pattern == pattern)
}
