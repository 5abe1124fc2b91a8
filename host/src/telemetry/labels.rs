//! The labels that several of the host's metrics have, and how a number becomes that of a gauge.
//!
//! Owns these few. A label that one metric alone has is beside that metric.

use prometheus_client::encoding::EncodeLabelSet;

/// What came of something, whatever model it was for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    pub(super) outcome: &'static str,
}

/// What came of something that was done for a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ModelOutcomeLabels {
    pub(super) model: String,
    pub(super) outcome: &'static str,
}

/// Why something was done to a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ModelReasonLabels {
    pub(super) model: String,
    pub(super) reason: &'static str,
}

/// One version of a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct VersionLabels {
    pub(super) model: String,
    pub(super) version: String,
}

impl VersionLabels {
    pub(super) fn of(model: &str, version: &str) -> Self {
        Self { model: model.to_owned(), version: version.to_owned() }
    }
}

/// A count or an amount as a gauge takes it; more than it can hold is the most that it can.
pub(super) fn gauge(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
