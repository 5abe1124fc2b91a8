//! Which door a request came through.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/predict`.
    Predict,
    /// `/v2/models/…/infer`.
    Infer,
    /// `ModelInfer` and `ModelStreamInfer` on gRPC.
    Grpc,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Predict, Self::Infer, Self::Grpc];

    /// Its name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::Infer => "infer",
            Self::Grpc => "grpc",
        }
    }
}
