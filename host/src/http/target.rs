//! Which model, and which version of it, a path names.
//!
//! Owns the reading of `{model}` and `{version}` in a route, so that a path that cannot be read is
//! answered in the same form as every other error.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;

use crate::error::Error;

/// The model, and the version if the path names one.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) model: String,
    pub(super) version: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let pairs = Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Path(pairs) =
            pairs.map_err(|error| Error::invalid(format!("the path cannot be read: {error}")))?;
        let mut target = Self { model: String::new(), version: None };
        for (name, value) in pairs {
            match name.as_str() {
                "model" => target.model = value,
                _ => target.version = Some(value),
            }
        }
        Ok(target)
    }
}
