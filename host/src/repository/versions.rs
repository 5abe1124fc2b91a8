//! What lies in a folder of models, for people.
//!
//! Owns the look at each version's files and manifest. It loads nothing and reads no `model.yaml`: what
//! is there is listed, whether it is served or not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::layout::folders;
use super::manifest::{self, Manifest};
use super::signature::TrustedKeys;
use super::{files, version};

/// How a version stands to its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestState {
    /// All files are as they were published.
    Ok,
    /// It has none.
    None,
    /// For these reasons it would not be served.
    Broken(Vec<String>),
}

impl ManifestState {
    /// Its name in a table.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::None => "none",
            Self::Broken(_) => "broken",
        }
    }
}

/// One version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedVersion {
    /// The model's name.
    pub model: String,
    /// The version's name.
    pub version: String,
    /// Its folder.
    pub path: PathBuf,
    /// How many files it has; hidden ones and the manifest are not counted.
    pub files: usize,
    /// The bytes of those files.
    pub bytes: u64,
    /// How it stands to its manifest.
    pub manifest: ManifestState,
}

/// The versions of all models of a folder, or of one, the earliest first. With `content` each file of a
/// published version is read and hashed; without, only names and sizes are looked at.
///
/// # Errors
/// That a folder cannot be read, or that there is no such model.
pub fn list_versions(
    models: &Path,
    model: Option<&str>,
    content: bool,
    keys: &TrustedKeys,
) -> Result<Vec<ListedVersion>, String> {
    let mut found = folders(models, &mut BTreeMap::new())?;
    if let Some(model) = model {
        found.retain(|(name, _)| name == model);
        if found.is_empty() {
            return Err(format!("there is no model '{model}' in {}", models.display()));
        }
    }
    let mut listed = Vec::new();
    for (model, path) in found {
        let mut versions = folders(&path, &mut BTreeMap::new())?;
        versions.retain(|(name, _)| version::is_version(name));
        versions.sort_by(|(left, _), (right, _)| version::compare(left, right));
        let look = |(version, path): (String, PathBuf)| look(model.clone(), version, path, content, keys);
        listed.extend(versions.into_iter().map(look));
    }
    Ok(listed)
}

fn look(model: String, version: String, path: PathBuf, content: bool, keys: &TrustedKeys) -> ListedVersion {
    let names = files::list(&path).unwrap_or_default();
    let sizes = names.iter().filter(|name| !manifest::is_own(name));
    let sizes = sizes.map(|name| std::fs::metadata(path.join(name)).map_or(0, |metadata| metadata.len()));
    let (files, bytes) =
        sizes.fold((0, 0_u64), |(files, bytes), size| (files + 1, bytes.saturating_add(size)));
    let manifest = match against_manifest(&path, content, keys) {
        Ok(true) => ManifestState::Ok,
        Ok(false) => ManifestState::None,
        Err(reasons) => ManifestState::Broken(reasons),
    };
    ListedVersion { model, version, path, files, bytes, manifest }
}

/// Whether there is a manifest, unless the folder cannot be listed, differs from it or lacks a signature.
fn against_manifest(path: &Path, content: bool, keys: &TrustedKeys) -> Result<bool, Vec<String>> {
    files::list(path).map_err(|reason| vec![reason])?;
    let read = Manifest::read(path).map_err(|reason| vec![reason])?;
    keys.check(path, read.as_ref().map(|(_, bytes)| bytes.as_slice())).map_err(|reason| vec![reason])?;
    let Some((manifest, _)) = read else {
        return Ok(false);
    };
    let held = if content { manifest.verify(path) } else { manifest.check_sizes(path) };
    let texts = |mismatches: Vec<manifest::Mismatch>| mismatches.iter().map(ToString::to_string).collect();
    held.map(|()| true).map_err(texts)
}
