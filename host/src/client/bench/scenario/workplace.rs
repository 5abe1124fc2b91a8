//! A folder of models with one model in it, for the hosts that a scenario starts.
//!
//! Owns the folder and its end. The model's files are copied into it; the folder that they come from is only
//! read. The model comes without its plugin, its manifest and its settings: tensors go in and out, and
//! what it is served with is the scenario's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::super::error::ClientError;
use crate::config::BundleConfig;
use crate::repository::compare_versions;

/// Files of a version that say how it is served.
const LEFT_OUT: [&str; 3] = ["bundle.yaml", "manifest.json", "manifest.sig"];
/// Folders within a version, at most.
const DEPTH: usize = 16;

/// See the module. Dropped, the folder is removed.
#[derive(Debug)]
pub(super) struct Workplace {
    folder: PathBuf,
    /// The model's name.
    pub(super) model: String,
    /// The version that is served.
    pub(super) version: String,
}

impl Workplace {
    /// Makes the folder and puts one version of a model into it; without a version the latest.
    ///
    /// # Errors
    /// [`ClientError::Usage`] if there is no such model, or its files cannot be brought over.
    pub(super) fn new(models: &Path, model: &str, version: Option<&str>) -> Result<Self, ClientError> {
        let (version, source) = find(models, model, version)?;
        let folder = fresh_folder()?;
        let place = Self { folder, model: model.to_owned(), version };
        let target = place.models().join(model).join(&place.version);
        let failed = |error: std::io::Error| {
            ClientError::Usage(format!(
                "cannot bring '{}' to '{}': {error}",
                source.display(),
                target.display()
            ))
        };
        fs::create_dir_all(&target).map_err(failed)?;
        bring(&source, &target, DEPTH).map_err(failed)?;
        if let Some(text) = plain_bundle(&source)? {
            fs::write(target.join("bundle.yaml"), text).map_err(failed)?;
        }
        fs::create_dir_all(place.plugins()).map_err(failed)?;
        fs::write(place.config(), "").map_err(failed)?;
        Ok(place)
    }

    /// The folder of models.
    pub(super) fn models(&self) -> PathBuf {
        self.folder.join("models")
    }

    /// An empty folder of plugins.
    pub(super) fn plugins(&self) -> PathBuf {
        self.folder.join("plugins")
    }

    /// An empty configuration, so that none is taken from the working folder.
    pub(super) fn config(&self) -> PathBuf {
        self.folder.join("config.yaml")
    }

    /// A file for a host's log.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("host.log")
    }

    /// Says how the model is served.
    ///
    /// # Errors
    /// [`ClientError::Usage`] if that cannot be written.
    pub(super) fn set(&self, model_yaml: &str) -> Result<(), ClientError> {
        let path = self.models().join(&self.model).join("model.yaml");
        fs::write(&path, model_yaml)
            .map_err(|error| ClientError::Usage(format!("cannot write '{}': {error}", path.display())))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // A leftover in the folder for temporary files is the system's to remove.
        let _left = fs::remove_dir_all(&self.folder);
    }
}

/// A new folder that nobody else can have made.
fn fresh_folder() -> Result<PathBuf, ClientError> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("nuke-bench-{}-{number}", std::process::id()));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(ClientError::Usage(format!("cannot make '{}': {error}", folder.display())));
            }
        }
    }
}

/// The version to serve, and its folder.
fn find(models: &Path, model: &str, version: Option<&str>) -> Result<(String, PathBuf), ClientError> {
    let unfit = |name: &str| name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']);
    if unfit(model) || version.is_some_and(unfit) {
        return Err(ClientError::Usage("a model and its version are names of folders, not paths".to_owned()));
    }
    let folder = models.join(model);
    let versions = folders(&folder).map_err(|error| {
        let known = folders(models).unwrap_or_default().join(", ");
        let known = if known.is_empty() { "none there".to_owned() } else { format!("there are {known}") };
        ClientError::Usage(format!(
            "no model '{model}' in '{}' ({error}; {known}); name a folder with --models and a model of it with \
             --model",
            models.display()
        ))
    })?;
    let latest = versions.iter().max_by(|left, right| compare_versions(left, right));
    match version {
        None => latest.cloned().ok_or_else(|| {
            ClientError::Usage(format!("'{}' has no version: expected a folder such as 1", folder.display()))
        }),
        Some(version) if versions.iter().any(|known| known == version) => Ok(version.to_owned()),
        Some(version) => {
            let known = versions.join(", ");
            Err(ClientError::Usage(format!("model '{model}' has no version {version}; there are: {known}")))
        }
    }
    .map(|version| {
        let source = folder.join(&version);
        (version, source)
    })
}

/// The names of the folders in a folder, sorted.
fn folders(of: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(of)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Copies the files of a version.
fn bring(source: &Path, target: &Path, depth: usize) -> std::io::Result<()> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(std::io::Error::other("folders lie too deep in each other"));
    };
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| LEFT_OUT.contains(&name) || name.starts_with('.')) {
            continue;
        }
        let (from, to) = (fs::canonicalize(entry.path())?, target.join(&name));
        if from.is_dir() {
            fs::create_dir(&to)?;
            bring(&from, &to, depth)?;
        } else {
            // No link: a host that serves the folder would take the file as changed.
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

/// A bundle's description without its plugin; `None` if it has none.
fn plain_bundle(source: &Path) -> Result<Option<String>, ClientError> {
    let path = source.join("bundle.yaml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ClientError::Usage(format!("cannot read '{}': {error}", path.display()))),
    };
    let bundle = BundleConfig::from_text(&path.display().to_string(), &text);
    let bundle = bundle.map_err(|problems| ClientError::Usage(problems.to_string()))?;
    // A path of a bundle has no quotes but may have other signs that mean something in YAML.
    Ok(Some(format!("model: {}\n", serde_json::Value::from(bundle.value.model.to_string()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for version in ["9", "10"] {
            let place = folder.path().join("m").join(version);
            fs::create_dir_all(place.join("weights")).unwrap();
            fs::write(place.join("net.onnx"), version).unwrap();
            fs::write(place.join("weights/a"), "w").unwrap();
            fs::write(place.join("bundle.yaml"), "plugin: p@^1\nmodel: net.onnx\n").unwrap();
            fs::write(place.join("manifest.json"), "{}").unwrap();
        }
        fs::write(folder.path().join("m/model.yaml"), "versions: all\n").unwrap();
        folder
    }

    #[test]
    fn the_latest_version_comes_without_plugin_and_manifest_and_leaves_nothing_behind() {
        let repository = repository();
        let place = Workplace::new(repository.path(), "m", None).unwrap();
        let there = place.models().join("m").join("10");
        assert_eq!(place.version, "10");
        assert_eq!(fs::read_to_string(there.join("net.onnx")).unwrap(), "10");
        assert_eq!(fs::read_to_string(there.join("weights/a")).unwrap(), "w");
        assert_eq!(fs::read_to_string(there.join("bundle.yaml")).unwrap(), "model: \"net.onnx\"\n");
        assert!(!there.join("manifest.json").exists() && !place.models().join("m/model.yaml").exists());
        place.set("workers: {max: 1}\n").unwrap();
        let folder = place.folder.clone();
        drop(place);
        assert!(!folder.exists());
        assert!(repository.path().join("m/10/manifest.json").exists());
    }

    #[test]
    fn a_model_or_version_that_is_not_there_is_told_with_those_that_are() {
        let repository = repository();
        let refusal =
            |model: &str, version| Workplace::new(repository.path(), model, version).unwrap_err().to_string();
        assert!(refusal("x", None).contains("no model 'x'") && refusal("x", None).contains("there are m"));
        assert!(refusal("m", Some("3")).ends_with("there are: 10, 9"));
        assert!(
            refusal("../m", None).contains("not paths") && refusal("m", Some("..")).contains("not paths")
        );
        fs::create_dir(repository.path().join("empty")).unwrap();
        assert!(refusal("empty", None).contains("has no version"));
        let error = Workplace::new(Path::new("/nowhere"), "m", None).unwrap_err().to_string();
        assert!(error.contains("none there") && error.contains("--models"), "{error}");
    }
}
