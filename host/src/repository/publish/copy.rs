//! Bytes from the source to the disk.
//!
//! Owns that what was hashed is what was written, that a source that changes meanwhile is noticed, and
//! that files and folders are on the disk before anybody is told.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::source::{SourceFile, cannot_read};
use super::{Progress, PublishError};
use crate::repository::manifest::{CHUNK, FileSum, Summing};

/// Copies all files below `target` and returns the sum of each.
pub(super) fn copy_all(
    files: &[SourceFile],
    target: &Path,
    progress: Progress<'_>,
) -> Result<BTreeMap<String, FileSum>, PublishError> {
    let total = files.iter().fold(0_u64, |total, file| total.saturating_add(file.size));
    let mut done = 0_u64;
    let mut sums = BTreeMap::new();
    for file in files {
        let to = target.join(&file.path);
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
        }
        let sum = copy_one(file, &to, |bytes| {
            done += bytes;
            progress(done, total.max(done))
        })?;
        sums.insert(file.path.clone(), sum);
    }
    Ok(sums)
}

fn copy_one(
    file: &SourceFile,
    to: &Path,
    mut copied: impl FnMut(u64) -> bool,
) -> Result<FileSum, PublishError> {
    let from = file.from.as_path();
    let mut source = open_plain(from)?;
    let before = source.metadata().map_err(|error| cannot_read(from, &error))?;
    let mut target = File::create_new(to).map_err(|error| cannot_write(to, &error))?;
    let mut sum = Summing::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        if !copied(0) {
            return Err(PublishError::Interrupted);
        }
        let count = match source.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(cannot_read(from, &error)),
        };
        let bytes = chunk.get(..count).unwrap_or_default();
        target.write_all(bytes).map_err(|error| cannot_write(to, &error))?;
        sum.update(bytes);
        copied(count as u64);
    }
    let after = source.metadata().map_err(|error| cannot_read(from, &error))?;
    let sum = sum.finish();
    let modified = |metadata: &std::fs::Metadata| metadata.modified().ok();
    if sum.size != after.len() || before.len() != after.len() || modified(&before) != modified(&after) {
        let reason =
            format!("{} changed while it was being copied; publish it when it is still", from.display());
        return Err(PublishError::Refused(reason));
    }
    target.sync_all().map_err(|error| cannot_write(to, &error))?;
    Ok(sum)
}

/// Opens a plain file, and neither what a link names nor a pipe, whatever was put in its place since it
/// was listed.
fn open_plain(path: &Path) -> Result<File, PublishError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|error| cannot_read(path, &error.into()))?;
    let file = File::from(file);
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(PublishError::Refused(format!("{} is no plain file; remove it", path.display()))),
        Err(error) => Err(cannot_read(path, &error)),
    }
}

/// Writes a new file and brings it to the disk.
pub(in crate::repository) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

/// Brings a folder and those in it to the disk.
pub(super) fn sync_folders(folder: &Path) -> Result<(), String> {
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_type().map_err(unreadable)?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    sync_folder(folder)
}

/// Brings a folder's entries to the disk. A file system that cannot do so for folders needs not.
pub(in crate::repository) fn sync_folder(folder: &Path) -> Result<(), String> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error) if !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            Err(format!("{} cannot be brought to the disk: {error}", folder.display()))
        }
        _ => Ok(()),
    }
}

pub(super) fn cannot_write(path: &Path, error: &std::io::Error) -> PublishError {
    PublishError::Refused(format!("{} cannot be written: {error}", path.display()))
}
