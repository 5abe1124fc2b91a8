//! What is being served, for requests to look up.
//!
//! Owns the map from a model's name and version to its generation. Reading it takes no lock: a
//! request gets an `Arc` of the generation and keeps it to its end, whatever is swapped meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::status::VersionStatus;
use super::version;
use crate::error::{Error, ErrorCode};
use crate::pipeline::Generation;

/// A model's versions, the earliest first.
pub(super) type Versions = Vec<(String, VersionStatus)>;

/// See the module.
#[derive(Debug, Default)]
pub struct ModelIndex {
    models: ArcSwap<BTreeMap<String, Arc<Versions>>>,
}

impl ModelIndex {
    /// Sets how one version stands; all others stay as they are.
    pub fn set(&self, model: &str, name: &str, status: &VersionStatus) {
        self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            let versions = Arc::make_mut(models.entry(model.to_owned()).or_default());
            versions.retain(|(version, _)| version != name);
            versions.push((name.to_owned(), status.clone()));
            versions.sort_by(|(left, _), (right, _)| version::compare(left, right));
            models
        });
    }

    /// Takes a version out; requests that it answers already end as they would have.
    pub fn remove(&self, model: &str, name: &str) {
        self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            if let Some(versions) = models.get_mut(model) {
                Arc::make_mut(versions).retain(|(version, _)| version != name);
            }
            models.retain(|_, versions| !versions.is_empty());
            models
        });
    }

    /// The generation that answers for a model, or for one version of it.
    ///
    /// # Errors
    /// `NotFound` for a name that is not there, `Unavailable` for one that is not ready.
    pub fn find(&self, model: &str, name: Option<&str>) -> Result<Arc<Generation>, Error> {
        let models = self.models.load();
        let Some(versions) = models.get(model) else {
            return Err(Error::new(
                ErrorCode::NotFound,
                format!("Request for unknown model: '{}' is not found", shorten(model)),
            ));
        };
        match name {
            Some(name) => match versions.iter().find(|(version, _)| version == name) {
                Some((_, status)) => ready(model, name, status),
                None => Err(Error::new(
                    ErrorCode::NotFound,
                    format!("Request for unknown model: '{model}' version {} is not found", shorten(name)),
                )),
            },
            None => latest_ready(model, versions),
        }
    }

    /// All models with how each of their versions stands.
    pub fn all(&self) -> Arc<BTreeMap<String, Arc<Versions>>> {
        self.models.load_full()
    }

    /// All generations that serve.
    pub fn generations(&self) -> Vec<Arc<Generation>> {
        let models = self.models.load();
        let statuses = models.values().flat_map(|versions| versions.iter().map(|(_, status)| status));
        statuses.filter_map(VersionStatus::generation).map(Arc::clone).collect()
    }
}

/// The latest version that is ready: a later one that failed does not take the model down.
fn latest_ready(model: &str, versions: &Versions) -> Result<Arc<Generation>, Error> {
    let mut statuses = versions.iter().rev();
    if let Some(generation) = statuses.find_map(|(_, status)| status.generation()) {
        return Ok(Arc::clone(generation));
    }
    match versions.last() {
        Some((version, status)) => ready(model, version, status),
        None => Err(Error::new(
            ErrorCode::NotFound,
            format!("Request for unknown model: '{model}' has no available versions"),
        )),
    }
}

fn ready(model: &str, version: &str, status: &VersionStatus) -> Result<Arc<Generation>, Error> {
    let reason = match status {
        VersionStatus::Ready(generation) | VersionStatus::Outdated(generation, _) => {
            return Ok(Arc::clone(generation));
        }
        VersionStatus::Discovered | VersionStatus::Loading(_) => "it is being loaded",
        VersionStatus::Draining(_) => "it is being unloaded",
        VersionStatus::Unloaded(failure) | VersionStatus::Failed(failure) => &failure.reason,
    };
    Err(Error::new(
        ErrorCode::Unavailable,
        format!("model '{model}' version {version} is not ready: {reason}"),
    ))
}

/// Control characters as escapes: a message is one line, and no terminal's command.
fn escape(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control().then(|| character.escape_debug());
    let plain = escaped.is_none().then_some(character);
    escaped.into_iter().flatten().chain(plain)
}

/// A name from outside, cut to what fits a message.
fn shorten(name: &str) -> String {
    name.chars().take(200).flat_map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::LoadFailure;

    #[test]
    fn what_is_not_there_is_not_found_and_what_failed_says_why() {
        let index = ModelIndex::default();
        assert_eq!(index.find("m", None).unwrap_err().code, ErrorCode::NotFound);
        index.set("m", "1", &VersionStatus::Failed(LoadFailure::now("no model.onnx")));
        let error = index.find("m", None).unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert_eq!(error.message, "model 'm' version 1 is not ready: no model.onnx");
        assert_eq!(index.find("m", Some("2")).unwrap_err().code, ErrorCode::NotFound);
        index.set("m", "1", &VersionStatus::Discovered);
        assert_eq!(index.all()["m"].len(), 1);
        index.remove("m", "1");
        assert!(index.all().is_empty());
    }
}
