//! The files that are to be sent, one after another.
//!
//! Owns the order, by name and folder by folder, and what is left out: hidden names, links to folders (which may lead
//! in a circle), and what is neither file nor folder. However many files a folder has, no more than [`CHUNK`] of their
//! names are held: a larger one is read again for the names that follow.

use std::collections::BinaryHeap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Names of one folder that are held at a time.
const CHUNK: usize = 16_384;

/// What the walk came upon.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A file, which may be gone when it is read.
    File(PathBuf),
    /// Something that was asked for and cannot be sent, and why.
    Problem(PathBuf, String),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Files {
    inputs: std::vec::IntoIter<PathBuf>,
    folders: Vec<Folder>,
    chunk: usize,
}

impl Files {
    /// Those of these files and folders.
    pub(super) fn new(inputs: Vec<PathBuf>) -> Self {
        Self { inputs: inputs.into_iter(), folders: Vec::new(), chunk: CHUNK }
    }

    fn named(&mut self, path: PathBuf) -> Option<Found> {
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => self.enter(path),
            Ok(meta) if meta.is_file() => return Some(Found::File(path)),
            Ok(_) => return Some(Found::Problem(path, "it is neither a file nor a folder".to_owned())),
            Err(error) => return Some(problem(path, &error)),
        }
        None
    }

    fn entry(&mut self, path: PathBuf) -> Option<Found> {
        let own = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(error) => return Some(problem(path, &error)),
        };
        if own.is_dir() {
            self.enter(path);
            return None;
        }
        let target = match fs::metadata(&path) {
            Ok(meta) => meta,
            Err(error) => return Some(problem(path, &error)),
        };
        target.is_file().then_some(Found::File(path))
    }

    fn enter(&mut self, path: PathBuf) {
        self.folders.push(Folder { path, names: Vec::new().into_iter(), last: None, is_read: false });
    }
}

impl Iterator for Files {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let Some(folder) = self.folders.last_mut() else {
                let input = self.inputs.next()?;
                match self.named(input) {
                    Some(found) => return Some(found),
                    None => continue,
                }
            };
            let found = match folder.next_path(self.chunk) {
                Ok(Some(path)) => self.entry(path),
                Ok(None) => self.folders.pop().and(None),
                Err(error) => self.folders.pop().map(|folder| problem(folder.path, &error)),
            };
            if found.is_some() {
                return found;
            }
        }
    }
}

fn problem(path: PathBuf, error: &io::Error) -> Found {
    Found::Problem(path, format!("cannot be read: {error}"))
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    names: std::vec::IntoIter<OsString>,
    last: Option<OsString>,
    is_read: bool,
}

impl Folder {
    fn next_path(&mut self, chunk: usize) -> io::Result<Option<PathBuf>> {
        if let Some(name) = self.names.next() {
            return Ok(Some(self.path.join(name)));
        }
        if self.is_read {
            return Ok(None);
        }
        let names = names_after(&self.path, self.last.as_deref(), chunk)?;
        self.is_read = names.len() < chunk;
        self.last = names.last().cloned();
        self.names = names.into_iter();
        Ok(self.names.next().map(|name| self.path.join(name)))
    }
}

/// The first `count` names of a folder after this one, in order.
fn names_after(folder: &Path, last: Option<&OsStr>, count: usize) -> io::Result<Vec<OsString>> {
    let mut first = BinaryHeap::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if name.as_bytes().starts_with(b".") || last.is_some_and(|last| name.as_os_str() <= last) {
            continue;
        }
        if first.len() < count {
            first.push(name);
        } else if first.peek().is_some_and(|greatest| name < *greatest) {
            first.pop();
            first.push(name);
        }
    }
    Ok(first.into_sorted_vec())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn walk(inputs: &[&Path], chunk: usize) -> Vec<Found> {
        Files { chunk, ..Files::new(inputs.iter().map(|path| path.to_path_buf()).collect()) }.collect()
    }

    #[test]
    fn folders_are_walked_in_order_whatever_the_chunk() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for folder in ["b", "b/z", ".git", "empty"] {
            fs::create_dir(at(folder)).unwrap();
        }
        let files = ["a.png", "b/1", "b/2", "b/z/deep", "b0", "c.png", "d"];
        for file in files.iter().chain(&[".hidden", ".git/x", "b/.x"]) {
            fs::write(at(file), file).unwrap();
        }
        symlink(root.path(), at("b/loop")).unwrap();
        symlink(at("d"), at("e")).unwrap();
        let expected: Vec<Found> = files.iter().chain(&["e"]).map(|name| Found::File(at(name))).collect();
        for chunk in [1, 2, 3, 7, 8, CHUNK] {
            assert_eq!(walk(&[root.path()], chunk), expected, "{chunk}");
        }
    }

    #[test]
    fn what_is_named_is_sent_or_told() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::write(at(".named"), "x").unwrap();
        symlink("nowhere", at("broken")).unwrap();
        let found = walk(&[&at(".named"), &at("none"), Path::new("/dev/null"), root.path()], 4);
        assert_eq!(found.first(), Some(&Found::File(at(".named"))));
        let problems = found.iter().filter(|found| matches!(found, Found::Problem(..))).count();
        assert_eq!((found.len(), problems), (4, 3), "{found:?}");
        assert!(matches!(&found[2], Found::Problem(_, reason) if reason.contains("neither")), "{found:?}");
    }
}
