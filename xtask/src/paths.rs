//! Owns where things lie: the repository, cargo's target folder and the cache outside git.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folders that every step works in. All are absolute.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// The repository.
    pub(crate) root: PathBuf,
    /// Downloads that outlive a `cargo clean`.
    pub(crate) cache: PathBuf,
    /// Cargo's target folder.
    pub(crate) target: PathBuf,
}

impl Paths {
    /// Finds the folders and makes the cache folder.
    ///
    /// # Errors
    /// There is neither `NUKE_CACHE` nor a home folder, or the cache cannot be written.
    pub(crate) fn discover() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let manifest = manifest.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        let root = manifest.parent().unwrap_or(&manifest).to_path_buf();
        let current = env::current_dir().context("the current folder is gone")?;
        let target = env::var_os("CARGO_TARGET_DIR")
            .filter(|folder| !folder.is_empty())
            .map_or_else(|| root.join("target"), |folder| current.join(folder));
        let cache = current.join(cache_folder(|name| env::var_os(name).map(PathBuf::from))?);
        fs::create_dir_all(&cache).with_context(|| {
            format!("cannot create the cache {}; set NUKE_CACHE to a folder", cache.display())
        })?;
        Ok(Self { root, cache, target })
    }

    /// Built plugins: `NAME/VERSION/plugin.wasm`.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.target.join("plugins")
    }

    /// Built guest fixtures: `LANGUAGE/plugin.wasm`.
    pub(crate) fn guests(&self) -> PathBuf {
        self.target.join("guests")
    }

    /// Waits until no other xtask writes the part `name` of the cache. Dropping the file lets go.
    ///
    /// # Errors
    /// The lock file cannot be made.
    pub(crate) fn lock(&self, name: &str) -> Result<File> {
        let path = self.cache.join(format!("{name}.lock"));
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(file)
    }

    /// An empty folder in the cache for this process, on the cache's own disk so that what is made
    /// in it can be renamed into place.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn scratch(&self, name: &str) -> Result<Scratch> {
        let folder = self.cache.join(format!("{name}.tmp-{}", std::process::id()));
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Scratch(folder))
    }
}

fn cache_folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    let set = |name: &str| variable(name).filter(|path| !path.as_os_str().is_empty());
    if let Some(cache) = set("NUKE_CACHE") {
        return Ok(cache);
    }
    if let Some(caches) = set("XDG_CACHE_HOME").filter(|path| path.is_absolute()) {
        return Ok(caches.join("nuke"));
    }
    let home = set("HOME")
        .context("neither NUKE_CACHE nor HOME is set, so there is no cache folder; set NUKE_CACHE")?;
    Ok(home.join(".cache/nuke"))
}

/// A folder that is removed, with all in it, when dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind is emptied by the next process of the same id.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::cache_folder;

    fn with(variables: &[(&str, &str)]) -> Option<PathBuf> {
        let find =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, path)| PathBuf::from(path));
        cache_folder(find).ok()
    }

    #[test]
    fn the_most_specific_variable_wins() {
        let all = [("NUKE_CACHE", "/a"), ("XDG_CACHE_HOME", "/b"), ("HOME", "/c")];
        assert_eq!(with(&all), Some("/a".into()));
        assert_eq!(with(&all[1..]), Some("/b/nuke".into()));
        assert_eq!(with(&all[2..]), Some("/c/.cache/nuke".into()));
        assert_eq!(with(&[]), None);
    }

    #[test]
    fn an_empty_or_relative_variable_counts_as_unset() {
        assert_eq!(with(&[("NUKE_CACHE", ""), ("HOME", "/c")]), Some("/c/.cache/nuke".into()));
        assert_eq!(with(&[("XDG_CACHE_HOME", "b"), ("HOME", "/c")]), Some("/c/.cache/nuke".into()));
    }
}
