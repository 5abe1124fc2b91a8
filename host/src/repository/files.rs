//! Reading a version's files, once.
//!
//! Owns the way from a path to bytes: what lies outside of the folder, or is no plain file, is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::whole_file::{Unread, read_regular_at_most};

/// Folders within folders that a bundle may have.
pub(super) const DEPTH: usize = 16;
/// Files that a bundle may have.
pub(super) const COUNT: usize = 10_000;

/// Whether a file or folder of this name is passed over: hidden ones, and what editors, copying tools and
/// uploads leave behind while they work.
pub(super) fn is_ignored(name: &str) -> bool {
    const ENDINGS: [&str; 4] = [".tmp", ".part", ".swp", "~"];
    name.starts_with('.') || ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// Reads one file whole.
pub(super) fn read(path: &Path) -> Result<Bytes, String> {
    let metadata =
        std::fs::metadata(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    if !metadata.is_file() {
        return Err(format!("{} is no plain file", path.display()));
    }
    std::fs::read(path)
        .map(Bytes::from)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

/// Reads one file whole, unless it has more bytes than that.
pub(super) fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    read_regular_at_most(path, limit).map_err(|unread| match unread {
        Unread::Failed(error) => format!("{} cannot be read: {error}", path.display()),
        Unread::NotRegular => format!("{} is no plain file", path.display()),
        Unread::TooLarge => format!("{} has more than {limit} bytes", path.display()),
    })
}

/// Reads one file of a folder, by its relative path, unless it leads out of the folder.
pub(super) fn read_within(folder: &Path, relative: &Path) -> Result<Bytes, String> {
    read(&real_path_within(folder, relative)?)
}

/// Where a path of a folder leads in the end, unless that is out of the folder.
pub(super) fn real_path_within(folder: &Path, relative: &Path) -> Result<PathBuf, String> {
    let path = folder.join(relative);
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let real_folder = folder.canonicalize().map_err(unreadable)?;
    let real = path.canonicalize().map_err(unreadable)?;
    if real.starts_with(&real_folder) {
        return Ok(real);
    }
    Err(format!(
        "{} is a link that leads out of its folder; copy what it names into the folder",
        path.display()
    ))
}

/// The files of a bundle by relative path, each with its size and, while they fit into `budget` bytes
/// together, its content as `read` has it. `skip` names those that are not for the plugin.
pub(super) fn bundle_files(
    folder: &Path,
    skip: impl Fn(&Path) -> bool,
    budget: usize,
    read: impl Fn(&Path) -> Result<Bytes, String>,
) -> Result<BTreeMap<String, (u64, Option<Bytes>)>, String> {
    let (mut files, mut left) = (BTreeMap::new(), budget);
    for name in list(folder)? {
        let relative = Path::new(&name);
        if skip(relative) {
            continue;
        }
        let path = folder.join(relative);
        let metadata = std::fs::metadata(&path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let fits = usize::try_from(metadata.len()).is_ok_and(|size| size <= left);
        let content = if fits { Some(read(relative)?) } else { None };
        left = left.saturating_sub(content.as_ref().map_or(0, Bytes::len));
        let size = content.as_ref().map_or(metadata.len(), |content| content.len() as u64);
        files.insert(name, (size, content));
    }
    Ok(files)
}

/// The relative paths of everything in a folder that is not a folder. Hidden ones are passed over.
pub(super) fn list(folder: &Path) -> Result<Vec<String>, String> {
    let mut paths = Vec::new();
    descend(folder, Path::new(""), 0, &mut paths)?;
    let name = |relative: PathBuf| match relative.to_str() {
        Some(name) => Ok(name.to_owned()),
        None => Err(format!("{} has a name that is not UTF-8", folder.join(&relative).display())),
    };
    paths.into_iter().map(name).collect()
}

fn descend(folder: &Path, relative: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> Result<(), String> {
    let place = folder.join(relative);
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", place.display());
    if depth > DEPTH {
        return Err(format!("{} is more than {DEPTH} folders deep", place.display()));
    }
    for entry in std::fs::read_dir(&place).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = relative.join(entry.file_name());
        if is_ignored(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let metadata = std::fs::metadata(entry.path())
            .map_err(|error| format!("{} cannot be read: {error}", entry.path().display()))?;
        if metadata.is_dir() {
            if entry.file_type().map_err(unreadable)?.is_symlink() {
                return Err(format!("{} is a link to a folder", folder.join(&path).display()));
            }
            descend(folder, &path, depth + 1, paths)?;
        } else {
            paths.push(path);
        }
        if paths.len() > COUNT {
            return Err(format!("{} has more than {COUNT} files", folder.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_listed_with_their_size_and_kept_while_they_fit() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        for (name, size) in [("labels.txt", 10), ("model.onnx", 5), ("sub/big", 100), (".hidden", 1)] {
            std::fs::write(folder.path().join(name), vec![b'x'; size]).unwrap();
        }
        let files = bundle_files(
            folder.path(),
            |path| path == Path::new("model.onnx"),
            50,
            |path| read_within(folder.path(), path),
        )
        .unwrap();
        let sizes: Vec<_> =
            files.iter().map(|(name, (size, content))| (name.as_str(), *size, content.is_some())).collect();
        assert_eq!(sizes, [("labels.txt", 10, true), ("sub/big", 100, false)]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_out_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), folder.path().join("labels.txt")).unwrap();
        let reason = bundle_files(folder.path(), |_| false, 1000, |path| read_within(folder.path(), path))
            .unwrap_err();
        assert!(reason.contains("leads out of its folder"), "{reason}");
    }
}
