//! Which versions of which models there are, by the folders and by `config.yaml`.
//!
//! Owns the reading of names: `<models>/<name>/<version>/`, `model.yaml` beside the versions, and the
//! `models:` list. It opens no model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::decisions::Decisions;
use super::{files, version};
use crate::config::{AlsoWanted, ModelConfig, ModelEntry, VersionPolicy};
use crate::model::DeviceWish;

const MODEL_FILE: &str = "model.yaml";
/// The version's name of a model folder that has none.
const NO_VERSION: &str = "none";

/// One version that is to be served.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionSource {
    /// The model's name.
    pub model: String,
    /// The version's name.
    pub version: String,
    /// The version's folder, or a bare `.onnx` file.
    pub path: PathBuf,
    /// How the model is served, or why that is not known.
    pub settings: Result<ModelConfig, String>,
}

/// What the folders say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Listing {
    /// All versions that are to be served, by model, each model's earliest first.
    pub(super) wanted: Vec<VersionSource>,
    /// Versions that `model.yaml` asks for and that have no folder; the settings say so. They are in
    /// `wanted` too.
    pub(super) missing: BTreeSet<(String, String)>,
    /// Versions that have a folder and that nobody asks for.
    pub(super) superseded: BTreeSet<(String, String)>,
    /// Models whose folder cannot be read, so that nothing is known of their versions.
    pub(super) unreadable: BTreeSet<String>,
    /// Folders whose names do not fit, with what is wrong.
    pub(super) passed_over: BTreeMap<PathBuf, &'static str>,
}

/// All versions that are to be served, by model, each model's earliest first.
///
/// # Errors
/// If the models folder cannot be read. A single model that cannot be read is a source whose settings
/// say why.
pub fn find_sources(
    models: &Path,
    listed: &[ModelEntry],
    decisions: &Decisions,
) -> Result<Vec<VersionSource>, String> {
    let listing = list(models, listed, decisions)?;
    for (path, reason) in &listing.passed_over {
        tracing::warn!(path = %path.display(), "passed over: {reason}");
    }
    Ok(listing.wanted)
}

/// As [`find_sources`], with what else a comparison with what is loaded needs.
pub(super) fn list(models: &Path, listed: &[ModelEntry], decisions: &Decisions) -> Result<Listing, String> {
    let mut listing = Listing::default();
    let mut by_model: BTreeMap<String, Vec<VersionSource>> = BTreeMap::new();
    for (name, path) in folders(models, &mut listing.passed_over)? {
        let sources = match files::real_path_within(models, Path::new(&name)) {
            Ok(_) => model_folder(&name, &path, decisions, &mut listing),
            Err(reason) => vec![refused(&name, path, reason)],
        };
        if !sources.is_empty() {
            by_model.insert(name, sources);
        }
    }
    for entry in listed {
        add_listed(by_model.entry(entry.name.clone()).or_default(), entry, decisions);
        let key = (entry.name.clone(), entry.version.clone());
        listing.missing.remove(&key);
        listing.superseded.remove(&key);
    }
    listing.wanted = by_model.into_values().flatten().collect();
    Ok(listing)
}

/// Whether a name can stand in a URL and a metric as it is.
pub(super) fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.bytes().all(fits)
}

/// The folders in a folder, by name; hidden and oddly named ones are passed over.
pub(super) fn folders(
    folder: &Path,
    passed_over: &mut BTreeMap<PathBuf, &'static str>,
) -> Result<Vec<(String, PathBuf)>, String> {
    let unreadable = |error: std::io::Error| format!("folder {} cannot be read: {error}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            passed_over.insert(path, "its name is not UTF-8");
            continue;
        };
        if files::is_ignored(name) || !path.is_dir() {
            continue;
        }
        if !is_name(name) {
            passed_over.insert(path, "a model's name is made of [A-Za-z0-9._-]");
            continue;
        }
        found.push((name.to_owned(), path));
    }
    found.sort();
    Ok(found)
}

/// A model of which nothing can be said but why.
fn refused(name: &str, path: PathBuf, reason: String) -> VersionSource {
    VersionSource { model: name.to_owned(), version: NO_VERSION.to_owned(), path, settings: Err(reason) }
}

fn model_folder(name: &str, path: &Path, decisions: &Decisions, listing: &mut Listing) -> Vec<VersionSource> {
    let source = |version: String, path: PathBuf, settings: &Result<ModelConfig, String>| VersionSource {
        model: name.to_owned(),
        version,
        path,
        settings: settings.clone(),
    };
    let settings = model_settings(path).map(|settings| decisions.apply(name, settings));
    let mut versions = match folders(path, &mut listing.passed_over) {
        Ok(versions) => versions,
        Err(reason) => {
            listing.unreadable.insert(name.to_owned());
            return vec![source("1".to_owned(), path.to_owned(), &Err(reason))];
        }
    };
    let misplaced = misplaced_model(path, &versions);
    versions.retain(|(version, _)| version::is_version(version));
    if let (Some(misplaced), true) = (misplaced, versions.is_empty()) {
        let reason = format!(
            "{} is in no version's folder; move it to {}",
            misplaced.display(),
            path.join("1").join("model.onnx").display()
        );
        return vec![source(NO_VERSION.to_owned(), path.to_owned(), &Err(reason))];
    }
    versions.sort_by(|(left, _), (right, _)| version::compare(left, right));
    let policy = settings.as_ref().map_or(VersionPolicy::Latest(1), |settings| settings.versions.clone());
    let there: Vec<String> = versions.iter().map(|(version, _)| version.clone()).collect();
    let mut also_wanted = settings.as_ref().map(ModelConfig::also_wanted).unwrap_or_default();
    let is_there = |name: &String| versions.iter().any(|(version, _)| version == name);
    let decided = decisions.promoted(name).into_iter().chain(decisions.stand_in(name));
    also_wanted.names.extend(decided.filter(is_there));
    let selected = select(versions, &policy, &also_wanted);
    let is_selected = |version: &String| selected.iter().any(|(name, _)| name == version);
    let superseded = there.into_iter().filter(|version| !is_selected(version));
    listing.superseded.extend(superseded.map(|version| (name.to_owned(), version)));
    selected
        .into_iter()
        .map(|(version, folder)| match folder {
            Some(folder) => match files::real_path_within(path, Path::new(&version)) {
                Ok(_) => source(version, folder, &settings),
                Err(reason) => source(version, folder, &Err(reason)),
            },
            None => {
                listing.missing.insert((name.to_owned(), version.clone()));
                let missing = format!(
                    "model.yaml or its traffic asks for version '{version}', but there is no such folder"
                );
                source(version.clone(), path.join(version), &Err(missing))
            }
        })
        .collect()
}

/// A model that lies beside the versions, or in a folder whose name is no version.
fn misplaced_model(folder: &Path, folders: &[(String, PathBuf)]) -> Option<PathBuf> {
    let beside = std::iter::once(folder).chain(folders.iter().map(|(_, path)| path.as_path()));
    beside.map(|folder| folder.join("model.onnx")).find(|file| file.exists())
}

fn model_settings(folder: &Path) -> Result<ModelConfig, String> {
    if !folder.join(MODEL_FILE).exists() {
        return Ok(ModelConfig::default());
    }
    let file = files::real_path_within(folder, Path::new(MODEL_FILE))?;
    ModelConfig::load(&file).map(|loaded| loaded.value).map_err(|problems| problems.to_string())
}

type Versions = Vec<(String, Option<PathBuf>)>;

/// What `policy` selects, the earliest first or as it lists them, and then what is wanted besides.
fn select(versions: Vec<(String, PathBuf)>, policy: &VersionPolicy, also_wanted: &AlsoWanted) -> Versions {
    let mut selected = select_by_policy(versions.clone(), policy);
    let older = versions.len().saturating_sub(also_wanted.latest);
    let latest = versions[older..].iter().map(|(name, _)| name);
    for name in latest.chain(&also_wanted.names) {
        if selected.iter().all(|(chosen, _)| chosen != name) {
            let found = versions.iter().find(|(version, _)| version == name);
            selected.push((name.clone(), found.map(|(_, path)| path.clone())));
        }
    }
    selected
}

fn select_by_policy(versions: Vec<(String, PathBuf)>, policy: &VersionPolicy) -> Versions {
    let there = |(name, path)| (name, Some(path));
    match policy {
        VersionPolicy::All => versions.into_iter().map(there).collect(),
        VersionPolicy::Latest(count) => {
            let older = versions.len().saturating_sub(*count);
            versions.into_iter().skip(older).map(there).collect()
        }
        VersionPolicy::Only(wanted) => wanted
            .iter()
            .map(|name| {
                let found = versions.iter().find(|(version, _)| version == name);
                (name.clone(), found.map(|(_, path)| path.clone()))
            })
            .collect(),
    }
}

/// A listed model adds a version, or replaces the one of the same name; `max_workers` and `gpu_id` hold for all
/// of the model's versions.
fn add_listed(sources: &mut Vec<VersionSource>, entry: &ModelEntry, decisions: &Decisions) {
    sources.retain(|source| source.version != NO_VERSION);
    let default = || Ok(decisions.apply(&entry.name, ModelConfig::default()));
    let settings = sources.first().map_or_else(default, |source| source.settings.clone());
    sources.retain(|source| source.version != entry.version);
    sources.push(VersionSource {
        model: entry.name.clone(),
        version: entry.version.clone(),
        path: entry.path.clone(),
        settings,
    });
    sources.sort_by(|left, right| version::compare(&left.version, &right.version));
    for source in sources {
        let Ok(settings) = &mut source.settings else {
            continue;
        };
        settings.workers.max = entry.max_workers.or(settings.workers.max);
        if let Some(number) = entry.gpu_id {
            settings.workers.session.device = DeviceWish::Cuda(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(names: &[&str]) -> Vec<(String, PathBuf)> {
        names.iter().map(|name| ((*name).to_owned(), PathBuf::from(name))).collect()
    }

    fn selected(policy: &VersionPolicy) -> Vec<(String, bool)> {
        let chosen = select(versions(&["1", "2", "10"]), policy, &AlsoWanted::default());
        chosen.into_iter().map(|(name, path)| (name, path.is_some())).collect()
    }

    #[test]
    fn the_policy_selects_versions() {
        assert_eq!(selected(&VersionPolicy::Latest(2)), [("2".to_owned(), true), ("10".to_owned(), true)]);
        assert_eq!(selected(&VersionPolicy::All).len(), 3);
        let only = VersionPolicy::Only(vec!["7".to_owned(), "1".to_owned()]);
        assert_eq!(selected(&only), [("7".to_owned(), false), ("1".to_owned(), true)]);
    }

    #[test]
    fn what_is_wanted_besides_is_selected_once() {
        let besides = |names: &[&str], latest| AlsoWanted {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            latest,
        };
        let there = || versions(&["1", "2", "10"]);
        let chosen = select(there(), &VersionPolicy::Latest(1), &besides(&["1", "10", "7"], 0));
        let chosen: Vec<_> = chosen.iter().map(|(name, path)| (name.as_str(), path.is_some())).collect();
        assert_eq!(chosen, [("10", true), ("1", true), ("7", false)]);
        let chosen = select(there(), &VersionPolicy::Only(vec!["1".to_owned()]), &besides(&[], 2));
        let chosen: Vec<_> = chosen.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(chosen, ["1", "2", "10"]);
    }

    #[test]
    fn names_that_do_not_fit_a_url_are_no_models() {
        assert!(is_name("image-classifier_2.0"));
        for name in ["", ".git", "a b", "a/b", "ä", &"x".repeat(129)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
