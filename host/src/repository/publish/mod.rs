//! Putting a version into a folder of models, whole or not at all.
//!
//! Owns the order: copy into a hidden folder beside the versions, look at what was copied, write the
//! manifest, bring everything to the disk, and only then give it its name. Whoever looks into the
//! folder meanwhile sees the version whole or not. It never changes a version that is there.

mod check;
mod copy;
mod remove;
mod source;
mod staging;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(super) use copy::{sync_folder, write_synced};
pub use remove::unpublish;

use super::layout::is_name;
use super::manifest::{FileSum, MANIFEST_FILE, Manifest, SIGNATURE_FILE};
use super::version;
use source::Source;
use staging::{ModelFolder, Staging};

/// Versions that are tried if others take theirs in the same moment.
const ATTEMPTS: usize = 1000;

/// What kind of version it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A version of a model, for the folder of models.
    Model,
    /// A version of a shared plugin, for the folder of plugins.
    Plugin,
}

impl Kind {
    /// The file that a version cannot do without, unless `bundle.yaml` names another.
    const fn main_file(self) -> &'static str {
        match self {
            Self::Model => "model.onnx",
            Self::Plugin => "plugin.wasm",
        }
    }
}

/// What is to be published, and where.
#[derive(Clone, Copy, Debug)]
pub struct PublishRequest<'a> {
    /// What it is.
    pub kind: Kind,
    /// A version's folder, or a bare `.onnx` file (`.wasm` for a plugin).
    pub source: &'a Path,
    /// The folder of models, or that of plugins.
    pub models: &'a Path,
    /// The model's name; without one, that of the source's folder.
    pub model: Option<&'a str>,
    /// The version's name; without one, the number after the highest.
    pub version: Option<&'a str>,
}

/// A version that has been published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The model's name.
    pub model: String,
    /// The version's name.
    pub version: String,
    /// Its folder.
    pub path: PathBuf,
    /// How many files it has, the manifest not counted.
    pub files: usize,
    /// The bytes of its files.
    pub bytes: u64,
    /// Whether the manifest's signature is there.
    pub signed: bool,
}

/// Why nothing was published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It was asked for in a way that cannot be right.
    #[error("{0}")]
    Usage(String),
    /// The source or the folder is not in order.
    #[error("{0}")]
    Refused(String),
    /// It was told to stop.
    #[error("interrupted; nothing was published")]
    Interrupted,
}

/// Signs the text of a manifest.
pub type Signer<'a> = &'a dyn Fn(&str) -> Result<String, String>;
/// Is told how many bytes of how many have been copied, and says whether to go on.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// Publishes a version.
///
/// # Errors
/// [`PublishError`]; unless its message says otherwise no version has appeared, and none has changed.
pub fn publish(
    request: PublishRequest<'_>,
    signer: Option<Signer<'_>>,
    progress: Progress<'_>,
) -> Result<Published, PublishError> {
    let source = Source::open(request.source, request.kind)?;
    let model = match request.model {
        Some(model) => model.to_owned(),
        None => source.model_name()?,
    };
    check_names(&model, request.version)?;
    check_kind(&request)?;
    source.refuse_inside(request.models)?;
    let folder = ModelFolder::open(request.models, &model)?;
    if let Some(version) = request.version {
        folder.refuse_existing(version)?;
    }
    folder.remove_stale();
    let files = source.files()?;
    let staging = Staging::create(&folder)?;
    let sums = copy::copy_all(&files, staging.path(), progress)?;
    let checked = match request.kind {
        Kind::Model => check::check_version(staging.path(), &sums, source.is_file()),
        Kind::Plugin => check::check_shared_plugin(staging.path(), &sums),
    };
    checked.map_err(PublishError::Refused)?;
    let signed = write_manifest(&source, staging.path(), sums, signer)?;
    let manifest = signed.0;
    copy::sync_folders(staging.path()).map_err(PublishError::Refused)?;
    let version = name_it(&folder, &staging, request.version)?;
    let path = folder.path().join(&version);
    staging.published();
    folder.sync()?;
    Ok(Published {
        model,
        version,
        path,
        files: manifest.files().len(),
        bytes: manifest.bytes(),
        signed: signed.1,
    })
}

fn check_names(model: &str, version: Option<&str>) -> Result<(), PublishError> {
    if !is_name(model) {
        return Err(PublishError::Usage(format!(
            "'{model}' cannot be a model's name: expected at most 128 of [A-Za-z0-9._-], the first not '.'"
        )));
    }
    match version {
        Some(version) => check_version(version),
        None => Ok(()),
    }
}

/// Bundles ask for plugins by semantic versions, which nobody can choose for the author.
fn check_kind(request: &PublishRequest<'_>) -> Result<(), PublishError> {
    let semantic = request.version.is_some_and(|version| semver::Version::parse(version).is_ok());
    if request.kind == Kind::Model || semantic {
        return Ok(());
    }
    Err(PublishError::Usage("a plugin needs --version with a semantic version like 1.2.0".to_owned()))
}

/// Whether a version can have this name.
fn check_version(version: &str) -> Result<(), PublishError> {
    if version::is_version(version) && is_name(version) {
        return Ok(());
    }
    Err(PublishError::Usage(format!(
        "'{version}' cannot be a version's name: expected a number like 3, or a semantic version like 1.2.0 \
         without '+'"
    )))
}

/// Writes the manifest, and its signature: a new one, or the source's own if the content is the same.
fn write_manifest(
    source: &Source,
    staging: &Path,
    sums: BTreeMap<String, FileSum>,
    signer: Option<Signer<'_>>,
) -> Result<(Manifest, bool), PublishError> {
    let manifest = Manifest::new(sums).map_err(PublishError::Refused)?;
    let text = manifest.to_json();
    let kept = source.published_before(&manifest, &text)?;
    let signature = match signer {
        Some(sign) => Some(sign(&text).map_err(PublishError::Refused)?),
        None => kept,
    };
    copy::write_synced(&staging.join(MANIFEST_FILE), text.as_bytes()).map_err(PublishError::Refused)?;
    if let Some(signature) = &signature {
        let path = staging.join(SIGNATURE_FILE);
        copy::write_synced(&path, signature.as_bytes()).map_err(PublishError::Refused)?;
    }
    Ok((manifest, signature.is_some()))
}

/// Gives the staged folder its name: the one asked for, or the first number that is free.
fn name_it(folder: &ModelFolder, staging: &Staging, asked: Option<&str>) -> Result<String, PublishError> {
    if let Some(version) = asked {
        folder.refuse_existing(version)?;
        return match folder.rename(staging.path(), version)? {
            true => Ok(version.to_owned()),
            false => Err(folder.taken(version)),
        };
    }
    for _ in 0..ATTEMPTS {
        let version = folder.next_version()?;
        if folder.rename(staging.path(), &version)? {
            return Ok(version);
        }
    }
    Err(PublishError::Refused(format!(
        "{ATTEMPTS} versions of {} were taken by others in the same moment; try again",
        folder.path().display()
    )))
}

#[cfg(test)]
mod tests;
