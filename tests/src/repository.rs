//! A folder of models for one test, and a folder of plugins beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::paths::root;

/// Models and plugins in a folder that is removed when this and the servers of it are dropped.
///
/// Calls chain, and `plugin`, `file`, `bundle_yaml` and `model_yaml` are about the model that was
/// added last:
///
/// ```no_run
/// # use nuke_tests::{Repository, Server, components};
/// let repository = Repository::new()
///     .model("digits", "1", "digits")
///     .model("looping", "1", "digits")
///     .plugin(components::build("loop-forever"))
///     .model_yaml("workers: {max: 2}");
/// let server = Server::builder().repository(&repository).start();
/// ```
#[derive(Debug)]
pub struct Repository {
    folder: Arc<TempDir>,
    current: Option<(String, String)>,
}

impl Default for Repository {
    fn default() -> Self {
        Self::new()
    }
}

impl Repository {
    /// Two empty folders.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("nuke-test-").tempdir();
        let folder = Arc::new(folder.expect("a folder for temporary files"));
        let repository = Self { folder, current: None };
        make(&repository.models());
        make(&repository.plugins());
        repository
    }

    /// The folder of both, which stays as long as what this returns.
    pub(crate) fn folder(&self) -> Arc<TempDir> {
        Arc::clone(&self.folder)
    }

    /// The folder of models.
    pub fn models(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    /// The folder of plugins that bundles name by `name@versions`.
    pub fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    /// Adds a version. `source` is the name of a sample model (`digits`), of a fixture (`big`, or a file of
    /// `bad-models` such as `wrong-op`), the path of an ONNX file, or that of a version's folder, of
    /// which everything is taken.
    ///
    /// # Panics
    /// If there is no such model.
    #[must_use]
    pub fn model(mut self, name: &str, version: &str, source: impl AsRef<Path>) -> Self {
        let folder = self.models().join(name).join(version);
        make(&folder);
        let source = find(source.as_ref());
        if source.is_dir() {
            link_all(&source, &folder);
        } else {
            link(&source, &folder.join("model.onnx"));
        }
        self.current = Some((name.to_owned(), version.to_owned()));
        self
    }

    /// Adds a version without a model file, for `file` and `bundle_yaml` to fill.
    #[must_use]
    pub fn empty_version(mut self, name: &str, version: &str) -> Self {
        make(&self.models().join(name).join(version));
        self.current = Some((name.to_owned(), version.to_owned()));
        self
    }

    /// Puts `plugin.wasm` beside the current version's model.
    #[must_use]
    pub fn plugin(self, component: impl AsRef<[u8]>) -> Self {
        self.file("plugin.wasm", component)
    }

    /// Writes a file of the current version; folders on the way are made.
    #[must_use]
    pub fn file(self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        write(&self.version_folder().join(path), bytes.as_ref());
        self
    }

    /// Writes the current version's bundle.yaml.
    #[must_use]
    pub fn bundle_yaml(self, text: &str) -> Self {
        self.file("bundle.yaml", text)
    }

    /// Writes the current model's model.yaml.
    #[must_use]
    pub fn model_yaml(self, text: &str) -> Self {
        write(&self.version_folder().with_file_name("model.yaml"), text.as_bytes());
        self
    }

    /// Puts a plugin into the folder of plugins.
    #[must_use]
    pub fn shared_plugin(self, name: &str, version: &str, component: impl AsRef<[u8]>) -> Self {
        write(&self.plugins().join(name).join(version).join("plugin.wasm"), component.as_ref());
        self
    }

    /// The folder of the version that was added last.
    ///
    /// # Panics
    /// If none was.
    pub fn version_folder(&self) -> PathBuf {
        let (name, version) = self.current.as_ref().expect("`model` comes first");
        self.models().join(name).join(version)
    }
}

/// What a test means by a model's name.
fn find(source: &Path) -> PathBuf {
    if source.is_absolute() {
        assert!(source.exists(), "{} is not there", source.display());
        return source.to_path_buf();
    }
    let fixtures = root().join("tests/fixtures");
    let places = [
        root().join("models").join(source).join("1/model.onnx"),
        fixtures.join("models").join(source).join("1/model.onnx"),
        fixtures.join("bad-models").join(source).with_extension("onnx"),
    ];
    let found = places.iter().find(|place| place.is_file());
    found.unwrap_or_else(|| panic!("there is no model '{}' in {places:?}", source.display())).clone()
}

fn make(folder: &Path) {
    fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
}

/// A link, or where the file system has none to offer, a copy.
fn link(source: &Path, target: &Path) {
    // A copy onto what is a link to the source already would empty both.
    let _was_there = fs::remove_file(target);
    if fs::hard_link(source, target).is_err() {
        fs::copy(source, target).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    }
}

fn link_all(source: &Path, target: &Path) {
    make(target);
    let entries = fs::read_dir(source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    for entry in entries.map(|entry| entry.expect("a folder that stays")) {
        let (path, target) = (entry.path(), target.join(entry.file_name()));
        if path.is_dir() {
            link_all(&path, &target);
        } else {
            link(&path, &target);
        }
    }
}

/// Replaces a file whole: never through a link into the fixture that it stands for.
fn write(path: &Path, bytes: &[u8]) {
    make(path.parent().expect("a file has a folder"));
    let next = path.with_extension("next");
    fs::write(&next, bytes)
        .and_then(|()| fs::rename(&next, path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_leaves_its_fixture_alone() {
        let repository = Repository::new().model("m", "1", "tiny").file("model.onnx", b"changed");
        assert_eq!(fs::read(repository.version_folder().join("model.onnx")).unwrap(), b"changed");
        assert_ne!(fs::read(find(Path::new("tiny"))).unwrap(), b"changed");
    }

    #[test]
    fn a_whole_version_is_taken_with_its_files() {
        let digits = root().join("models/digits/1");
        let repository = Repository::new().model("m", "2", &digits).model_yaml("workers: {max: 2}\n");
        assert!(repository.models().join("m/2/model.onnx").is_file());
        assert!(repository.models().join("m/model.yaml").is_file());
    }
}
