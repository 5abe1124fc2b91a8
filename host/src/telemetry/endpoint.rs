//! Which door a request came through.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/predict`.
    Predict,
    /// `/v2/models/…/infer`.
    Infer,
}

impl Endpoint {
    /// Its name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::Infer => "infer",
        }
    }
}
