//! What a version's files look like from outside: names, sizes, times, inodes, links.
//!
//! Owns the question whether something has changed. It opens no file but `bundle.yaml`, for the plugin that
//! a version refers to; contents are the loader's.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::checked::declared_plugin;
use super::files::{COUNT, DEPTH, is_ignored};
use super::layout::VersionSource;
use super::load::latest_matching;
use super::manifest::Manifest;
use crate::config::PluginRef;

/// What tells one content of a path from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// A file, or what a link to one leads to.
    File {
        size: u64,
        /// Seconds and nanoseconds.
        modified: (i64, i64),
        /// The inode's own time, which nobody can set back. `None` for a file with several hard links:
        /// making and removing one of those changes it, and no content.
        changed: Option<(i64, i64)>,
        inode: (u64, u64),
        /// What the path says, if it is a link.
        link: Option<PathBuf>,
    },
    /// A link to a folder; what is in there does not count, because the loader refuses it.
    FolderLink(PathBuf),
    /// It cannot be looked at.
    Unreadable(ErrorKind),
}

impl Entry {
    fn read(path: &Path) -> Self {
        let link = std::fs::read_link(path).ok();
        match (std::fs::metadata(path), link) {
            (Err(error), _) => Self::Unreadable(error.kind()),
            (Ok(metadata), Some(link)) if metadata.is_dir() => Self::FolderLink(link),
            (Ok(metadata), link) => Self::File {
                size: metadata.len(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                changed: (metadata.nlink() == 1).then(|| (metadata.ctime(), metadata.ctime_nsec())),
                inode: (metadata.dev(), metadata.ino()),
                link,
            },
        }
    }

    /// When it was last written, in seconds of the epoch, rounded up.
    fn latest(&self) -> i64 {
        match self {
            Self::File { modified, changed, .. } => modified.max(&changed.unwrap_or(*modified)).0 + 1,
            _ => i64::MIN,
        }
    }
}

/// The files of one folder, by relative path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    /// Where the folder really is: another place is another content.
    real: Option<PathBuf>,
    entries: BTreeMap<PathBuf, Entry>,
}

impl Files {
    /// Looks at all files below a folder, or at one file.
    pub(super) fn read(path: &Path) -> Self {
        let mut files = Self { real: path.canonicalize().ok(), entries: BTreeMap::new() };
        if path.is_dir() {
            files.add_folder(path, Path::new(""), 0);
        } else {
            files.entries.insert(PathBuf::new(), Entry::read(path));
        }
        files
    }

    fn add_folder(&mut self, folder: &Path, relative: &Path, depth: usize) {
        let entries = match std::fs::read_dir(folder.join(relative)) {
            Ok(entries) => entries,
            Err(error) => {
                self.entries.insert(relative.to_owned(), Entry::Unreadable(error.kind()));
                return;
            }
        };
        for entry in entries {
            // More than the loader takes: it will say so.
            if self.entries.len() > COUNT || depth > DEPTH {
                return;
            }
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.entries.insert(relative.to_owned(), Entry::Unreadable(error.kind()));
                    continue;
                }
            };
            let name = entry.file_name();
            if is_ignored(&name.to_string_lossy()) {
                continue;
            }
            let path = relative.join(name);
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.add_folder(folder, &path, depth + 1);
            } else {
                self.entries.insert(path, Entry::read(&entry.path()));
            }
        }
    }
}

/// All that a generation is made of, as it looks from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint {
    files: Files,
    /// The shared plugin that the bundle's reference leads to now, or why it leads nowhere.
    plugin: Option<Result<(PathBuf, Entry), String>>,
}

impl Fingerprint {
    /// Looks at a version's files, and at the plugin in the folder `plugins` that it refers to.
    pub(super) fn read(source: &VersionSource, plugins: &Path) -> Self {
        let files = Files::read(&source.path);
        let reference = plugin_reference(&source.path);
        Self::with_plugin(files, reference.as_ref(), plugins)
    }

    /// As [`Fingerprint::read`], with what is known already.
    pub(super) fn with_plugin(files: Files, reference: Option<&PluginRef>, plugins: &Path) -> Self {
        let plugin = match reference {
            Some(PluginRef::Named { name, versions }) => {
                let folder = plugins.join(name);
                Some(latest_matching(&folder, versions).map(|version| {
                    let path = folder.join(version).join("plugin.wasm");
                    let entry = Entry::read(&path);
                    (path, entry)
                }))
            }
            // A file of the bundle itself is among its files.
            Some(PluginRef::File(_)) | None => None,
        };
        Self { files, plugin }
    }

    /// Bytes of the version's files, and of its shared plugin.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let size = |entry: &Entry| if let Entry::File { size, .. } = entry { *size } else { 0 };
        let files = self.files.entries.values().map(size).fold(0, u64::saturating_add);
        let plugin = self.plugin.as_ref().and_then(|found| found.as_ref().ok());
        (files, plugin.map_or(0, |(_, entry)| size(entry)))
    }

    /// Whether the version's manifest says that all of it is there, and its shared plugin, if it has one, is as
    /// whole: by a manifest too, or because it was last written more than `quiet` before `now`. Sizes are looked
    /// at; contents are the loader's to check.
    pub(super) fn is_complete(&self, folder: &Path, quiet: Duration, now: SystemTime) -> bool {
        let has_all = |folder: &Path| {
            let manifest = Manifest::read(folder);
            matches!(manifest, Ok(Some((manifest, _))) if manifest.check_sizes(folder).is_ok())
        };
        let plugin = match &self.plugin {
            None => true,
            Some(Ok((path, entry))) => {
                entry.latest() <= before(now, quiet) || path.parent().is_some_and(has_all)
            }
            Some(Err(_)) => false,
        };
        plugin && folder.is_dir() && has_all(folder)
    }

    /// Whether everything was last written more than `quiet` before `now`, by the files' own times.
    pub(super) fn has_been_still(&self, quiet: Duration, now: SystemTime) -> bool {
        let plugin = self.plugin.iter().filter_map(|plugin| plugin.as_ref().ok().map(|(_, entry)| entry));
        let latest = self.files.entries.values().chain(plugin).map(Entry::latest).max();
        latest.is_none_or(|latest| latest <= before(now, quiet))
    }
}

/// The second of the epoch that was `quiet` before `now`.
fn before(now: SystemTime, quiet: Duration) -> i64 {
    let limit = now.checked_sub(quiet).and_then(|limit| limit.duration_since(SystemTime::UNIX_EPOCH).ok());
    limit.and_then(|limit| i64::try_from(limit.as_secs()).ok()).unwrap_or(i64::MIN)
}

/// The plugin that a version's `bundle.yaml` names; none if it cannot be read, which the loader will say.
pub(super) fn plugin_reference(path: &Path) -> Option<PluginRef> {
    if path.is_dir() { declared_plugin(path) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BundleConfig;

    fn version(folder: &Path) -> Files {
        Files::read(folder)
    }

    #[test]
    fn every_kind_of_change_shows_and_droppings_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::write(path.join("model.onnx"), "one").unwrap();
        let first = version(path);
        assert_eq!(version(path), first);
        for name in [".hidden", "model.onnx.tmp", "a.part", "b~", ".model.onnx.swp", "x.swp"] {
            std::fs::write(path.join(name), "x").unwrap();
        }
        assert_eq!(version(path), first);
        std::fs::write(path.join("labels.txt"), "a").unwrap();
        let added = version(path);
        assert_ne!(added, first);
        // Same size, same time of writing: another inode.
        let times = std::fs::metadata(path.join("labels.txt")).unwrap().modified().unwrap();
        std::fs::write(path.join(".next"), "b").unwrap();
        std::fs::File::options().write(true).open(path.join(".next")).unwrap().set_modified(times).unwrap();
        std::fs::rename(path.join(".next"), path.join("labels.txt")).unwrap();
        let replaced = version(path);
        assert_ne!(replaced, added);
        std::fs::create_dir(path.join("sub")).unwrap();
        std::fs::write(path.join("sub/file"), "x").unwrap();
        assert_ne!(version(path), replaced);
        std::fs::remove_dir_all(path.join("sub")).unwrap();
        assert_eq!(version(path), replaced);
    }

    #[test]
    fn a_hard_link_from_elsewhere_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let kept = tempfile::tempdir_in(folder.path()).unwrap();
        let version_folder = folder.path().join("1");
        std::fs::create_dir(&version_folder).unwrap();
        std::fs::write(kept.path().join("original"), "x").unwrap();
        std::fs::hard_link(kept.path().join("original"), version_folder.join("model.onnx")).unwrap();
        let before = version(&version_folder);
        std::fs::hard_link(kept.path().join("original"), kept.path().join("another")).unwrap();
        assert_eq!(version(&version_folder), before);
    }

    #[test]
    fn a_swapped_link_shows_even_between_equal_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for data in ["..a", "..b"] {
            std::fs::create_dir(path.join(data)).unwrap();
            std::fs::write(path.join(data).join("model.onnx"), "same").unwrap();
        }
        std::os::unix::fs::symlink("..a", path.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/model.onnx", path.join("model.onnx")).unwrap();
        let before = version(path);
        std::os::unix::fs::symlink("..b", path.join("..new")).unwrap();
        std::fs::rename(path.join("..new"), path.join("..data")).unwrap();
        assert_ne!(version(path), before);
    }

    #[test]
    fn fresh_files_have_not_been_still() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.onnx"), "x").unwrap();
        let print = Fingerprint::with_plugin(version(folder.path()), None, Path::new("no-such-folder"));
        let now = SystemTime::now();
        let quiet = Duration::from_secs(1);
        assert!(!print.has_been_still(quiet, now));
        assert!(print.has_been_still(quiet, now + Duration::from_secs(3)));
        assert!(!print.has_been_still(quiet, now - Duration::from_secs(3600)));
    }

    #[test]
    fn only_a_manifest_with_all_its_files_is_complete() {
        use crate::repository::manifest::{FileSum, MANIFEST_FILE};

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let (quiet, now) = (Duration::from_secs(5), SystemTime::now());
        let is_complete =
            || Fingerprint::with_plugin(version(path), None, path).is_complete(path, quiet, now);
        let files = ["model.onnx", "labels.txt"].map(|name| (name.to_owned(), FileSum::of(b"whole"))).into();
        let manifest = Manifest::new(files).unwrap().to_json();
        std::fs::write(path.join(MANIFEST_FILE), &manifest).unwrap();
        std::fs::write(path.join("model.onnx"), "whole").unwrap();
        assert!(!is_complete(), "a file is missing");
        std::fs::write(path.join("labels.txt"), "who").unwrap();
        assert!(!is_complete(), "a file is short");
        std::fs::write(path.join("labels.txt"), "whole").unwrap();
        assert!(is_complete());
        let reference = BundleConfig::from_text("bundle.yaml", "plugin: none@^1\n").unwrap().value.plugin;
        let with_plugin = Fingerprint::with_plugin(version(path), reference.as_ref(), path);
        assert!(!with_plugin.is_complete(path, quiet, now), "its plugin is nowhere");
        let plugins = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(plugins.path().join("none/1.0.0")).unwrap();
        std::fs::write(plugins.path().join("none/1.0.0/plugin.wasm"), "bytes").unwrap();
        let with_plugin = Fingerprint::with_plugin(version(path), reference.as_ref(), plugins.path());
        assert!(!with_plugin.is_complete(path, quiet, now), "its plugin may still be written");
        assert!(with_plugin.is_complete(path, quiet, now + 3 * quiet), "its plugin has long been there");
        std::fs::write(path.join(MANIFEST_FILE), &manifest[..manifest.len() / 2]).unwrap();
        assert!(!is_complete(), "the manifest is short");
        std::fs::remove_file(path.join(MANIFEST_FILE)).unwrap();
        assert!(!is_complete());
    }
}
