//! A folder whose files are held against its manifest as they are read.
//!
//! Owns that no byte of a published version is used that was not published: names and sizes are looked at
//! first, and each file's content when it is read, in the very bytes that are handed on. A folder
//! without a manifest is read as it is, unless signatures are asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::files;
use super::manifest::{self, Manifest, Mismatch};
use super::signature::TrustedKeys;
use crate::config::{BundleConfig, MAX_CONFIG, PluginRef};

/// What a version consists of, in its folder.
pub(super) const BUNDLE_FILE: &str = "bundle.yaml";
/// A plugin that is used without being named.
pub(super) const PLUGIN_FILE: &str = "plugin.wasm";

/// See the module.
#[derive(Debug)]
pub(super) struct CheckedFolder {
    folder: PathBuf,
    manifest: Option<Manifest>,
}

impl CheckedFolder {
    /// Reads the manifest, its signature, and the names and sizes of what is there.
    pub(super) fn open(folder: &Path, keys: &TrustedKeys) -> Result<Self, String> {
        let manifest = Manifest::read(folder)?;
        keys.check(folder, manifest.as_ref().map(|(_, bytes)| bytes.as_slice()))?;
        let manifest = manifest.map(|(manifest, _)| manifest);
        if let Some(manifest) = &manifest {
            manifest.check_sizes(folder).map_err(|mismatches| differs(folder, &mismatches))?;
        }
        Ok(Self { folder: folder.to_owned(), manifest })
    }

    /// Reads one file whole.
    pub(super) fn read(&self, relative: &Path) -> Result<Bytes, String> {
        self.check(relative, files::read_within(&self.folder, relative)?)
    }

    /// What bundle.yaml says, if there is one. Where it names no plugin, a `plugin.wasm` beside the model
    /// is taken as the plugin.
    pub(super) fn bundle_config(&self) -> Result<BundleConfig, String> {
        let (path, relative) = (self.folder.join(BUNDLE_FILE), Path::new(BUNDLE_FILE));
        let mut config = BundleConfig::default();
        if path.exists() {
            let real = files::real_path_within(&self.folder, relative)?;
            let text = self.check(relative, files::read_at_most(&real, MAX_CONFIG)?.into())?;
            let loaded = BundleConfig::from_bytes(&path.display().to_string(), &text);
            config = loaded.map_err(|problems| problems.to_string())?.value;
        }
        if config.plugin.is_none() && self.folder.join(PLUGIN_FILE).exists() {
            let beside = BundleConfig::from_text(BUNDLE_FILE, &format!("plugin: {PLUGIN_FILE}\n"));
            config.plugin = beside.map_err(|problems| problems.to_string())?.value.plugin;
        }
        Ok(config)
    }

    /// The files for the version's plugin: [`files::bundle_files`] without the manifest.
    pub(super) fn bundle_files(
        &self,
        skip: &[&Path],
        budget: usize,
    ) -> Result<BTreeMap<String, (u64, Option<Bytes>)>, String> {
        let skip = |path: &Path| skip.contains(&path) || path.to_str().is_some_and(manifest::is_own);
        files::bundle_files(&self.folder, skip, budget, |path| self.read(path))
    }

    fn check(&self, relative: &Path, content: Bytes) -> Result<Bytes, String> {
        let Some(manifest) = &self.manifest else {
            return Ok(content);
        };
        let Some(path) = relative.to_str() else {
            return Err(format!("{} has a name that is not UTF-8", self.folder.join(relative).display()));
        };
        manifest.check(path, &content).map_err(|mismatch| differs(&self.folder, &[mismatch]))?;
        Ok(content)
    }
}

/// The plugin that a bundle names, without a look at its manifest: the loader holds it against that.
pub(super) fn declared_plugin(folder: &Path) -> Option<PluginRef> {
    CheckedFolder { folder: folder.to_owned(), manifest: None }.bundle_config().ok()?.plugin
}

/// Ten differences at most: a folder that has nothing to do with its manifest has thousands.
fn differs(folder: &Path, mismatches: &[Mismatch]) -> String {
    let mut lines: Vec<String> =
        mismatches.iter().take(10).map(|mismatch| format!("{}: {mismatch}", folder.display())).collect();
    let more = mismatches.len() - lines.len();
    if more > 0 {
        lines.push(format!("{}: {more} more files differ from the manifest", folder.display()));
    }
    lines.join("\n")
}
