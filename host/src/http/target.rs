//! Which model, and which version of it, a path names.
//!
//! Owns, besides the question whether the caller may ask for that model, the reading of `{model}`, `{model}@{version}` and `{version}` in a route, so that a path that cannot be read is
//! answered in the same form as every other error.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;

use super::authorise::Asker;
use crate::auth::Need;
use crate::error::Error;

/// The model, and the version, label or arm if the path names one.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) model: String,
    pub(crate) version: Option<String>,
}

/// A model as a whole, for requests of operators that are about no single version of it. Their routes ask who asks.
#[derive(Debug)]
pub(super) struct WholeModel {
    pub(super) model: String,
}

impl<S: Send + Sync> FromRequestParts<S> for WholeModel {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let Target { model, version } = read(parts, state).await?;
        match version {
            None => Ok(Self { model }),
            Some(_) => Err(Error::invalid("this is about a whole model; name it without '@' and version")),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = Error;

    /// The caller has to be one that may ask for the model. That is judged by the name alone, so that who may not does
    /// not learn whether there is such a model.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let target = read(parts, state).await?;
        let Asker(caller) = Asker::of(parts)?;
        caller.require(Need::Predict(&target.model))?;
        Ok(target)
    }
}

impl Target {
    /// What a request names in two fields, the second of them possibly empty.
    ///
    /// # Errors
    /// `InvalidArgument` if the version is named twice.
    pub(crate) fn named(model: &str, version: &str) -> Result<Self, Error> {
        let version = Some(version.to_owned()).filter(|version| !version.is_empty());
        Self { model: model.to_owned(), version }.split()
    }

    /// No model's name has an '@': what follows it is a version or a label.
    fn split(self) -> Result<Self, Error> {
        let Some((model, version)) = self.model.split_once('@') else {
            return Ok(self);
        };
        if self.version.is_some() {
            return Err(Error::invalid("the path names a version twice: behind '@' and on its own"));
        }
        Ok(Self { version: Some(version.to_owned()), model: model.to_owned() })
    }
}

async fn read<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Target, Error> {
    let pairs = Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
    let Path(pairs) = pairs.map_err(|error| Error::invalid(format!("the path cannot be read: {error}")))?;
    let mut target = Target { model: String::new(), version: None };
    for (name, value) in pairs {
        match name.as_str() {
            "model" => target.model = value,
            "version" => target.version = Some(value),
            _ => {}
        }
    }
    target.split()
}
