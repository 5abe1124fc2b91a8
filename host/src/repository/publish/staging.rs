//! A model's folder in the folder of models, and the hidden folders in it that versions are made in.
//!
//! Owns their names, the rename that makes a version of one, and the removal of those that were left
//! behind. A hidden folder is no version for anybody: all who read model folders pass it over.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::PublishError;
use super::copy::{cannot_write, sync_folder};
use super::source::cannot_read;
use crate::repository::version;

/// How the hidden folders' names begin.
const PREFIX: &str = ".publish-";
/// A hidden folder in which nothing was written for so long was left behind. Who copies writes all the
/// time, and the disk takes less than this for the last of it.
const STALE: Duration = Duration::from_secs(3600);

/// The folder of one model. It is made if it is not there, and removed again if nothing comes of it.
#[derive(Debug)]
pub(super) struct ModelFolder {
    models: PathBuf,
    path: PathBuf,
    made: bool,
}

impl ModelFolder {
    /// Opens or makes the folder of a model, whose name is a good one.
    pub(super) fn open(models: &Path, model: &str) -> Result<Self, PublishError> {
        if !models.is_dir() {
            return Err(PublishError::Usage(format!("there is no folder of models {}", models.display())));
        }
        let path = models.join(model);
        let made = match std::fs::create_dir(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(cannot_write(&path, &error)),
        };
        let metadata = path.symlink_metadata().map_err(|error| cannot_read(&path, &error))?;
        if !metadata.is_dir() {
            let reason = format!("{} is no folder; expected one for the model's versions", path.display());
            return Err(PublishError::Refused(reason));
        }
        Ok(Self { models: models.to_owned(), path, made })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the versions that are there in whatever form.
    fn versions(&self) -> Result<Vec<String>, PublishError> {
        let entries = std::fs::read_dir(&self.path).map_err(|error| cannot_read(&self.path, &error))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| version::is_version(name)).collect())
    }

    /// Refuses a version that is there, and one that is the same number in another form.
    pub(super) fn refuse_existing(&self, wanted: &str) -> Result<(), PublishError> {
        let there = self.versions()?;
        match there.iter().find(|name| version::same(name, wanted)) {
            Some(name) if name == wanted => Err(self.taken(name)),
            Some(name) => Err(PublishError::Refused(format!(
                "version {name} of {} is there, and {wanted} is the same number; publish a later one",
                self.path.display()
            ))),
            None => Ok(()),
        }
    }

    /// That a version cannot be published because it is there.
    pub(super) fn taken(&self, name: &str) -> PublishError {
        PublishError::Refused(format!(
            "{} is there, and a version is never changed; publish a later one, or `nuke unpublish` it first",
            self.path.join(name).display()
        ))
    }

    /// The number after the highest version, or 1.
    pub(super) fn next_version(&self) -> Result<String, PublishError> {
        let highest = self.versions()?.iter().filter_map(|name| version::major(name)).max();
        let next = highest.map_or(Some(1), |highest| highest.checked_add(1));
        next.map(|next| next.to_string()).ok_or_else(|| {
            let reason = format!("there is no number after the highest in {}", self.path.display());
            PublishError::Refused(reason)
        })
    }

    /// Gives a hidden folder the name of a version; false if something has that name.
    pub(super) fn rename(&self, staged: &Path, name: &str) -> Result<bool, PublishError> {
        let target = self.path.join(name);
        match rustix::fs::renameat_with(CWD, staged, CWD, &target, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST | Errno::NOTEMPTY) => return Ok(false),
            // File systems without that kind of rename.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(cannot_write(&target, &error.into())),
        }
        if target.symlink_metadata().is_ok() {
            return Ok(false);
        }
        // Whoever has come between is noticed too: a folder that is not empty is not replaced.
        match std::fs::rename(staged, &target) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty) => {
                Ok(false)
            }
            Err(error) => Err(cannot_write(&target, &error)),
        }
    }

    /// A name for a hidden folder that nobody else has.
    pub(super) fn hidden_name(&self) -> PathBuf {
        let random = RandomState::new().build_hasher().finish();
        self.path.join(format!("{PREFIX}{random:016x}"))
    }

    /// Removes hidden folders that were left behind by a publish or an unpublish that was ended.
    pub(super) fn remove_stale(&self) {
        let Ok(entries) = std::fs::read_dir(&self.path) else {
            return;
        };
        let now = SystemTime::now();
        for entry in entries.filter_map(Result::ok) {
            let hidden = entry.file_name().to_string_lossy().starts_with(PREFIX);
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let age = || now.duration_since(last_written(&entry.path())?).ok();
            if hidden && is_folder && age().is_some_and(|age| age > STALE) {
                // Another publish may be removing it too; what stays is tried again next time.
                let _left = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Brings the new name to the disk.
    pub(super) fn sync(&self) -> Result<(), PublishError> {
        let synced = sync_folder(&self.path);
        let synced = if self.made { synced.and_then(|()| sync_folder(&self.models)) } else { synced };
        synced.map_err(|reason| {
            PublishError::Refused(format!(
                "{reason}; the version is there, but may be lost if the machine stops"
            ))
        })
    }
}

impl Drop for ModelFolder {
    fn drop(&mut self) {
        if self.made {
            // Fails, as it should, if there is anything in it.
            let _kept = std::fs::remove_dir(&self.path);
        }
    }
}

/// When anything in a folder was written last.
fn last_written(path: &Path) -> Option<SystemTime> {
    let metadata = path.symlink_metadata().ok()?;
    let own = metadata.modified().ok()?;
    if !metadata.is_dir() {
        return Some(own);
    }
    let entries = std::fs::read_dir(path).ok()?;
    let below = entries.filter_map(|entry| last_written(&entry.ok()?.path()));
    Some(below.fold(own, SystemTime::max))
}

/// A hidden folder that a version is made in; removed if it does not become one.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
    published: bool,
}

impl Staging {
    pub(super) fn create(folder: &ModelFolder) -> Result<Self, PublishError> {
        let path = folder.hidden_name();
        std::fs::create_dir(&path).map_err(|error| cannot_write(&path, &error))?;
        Ok(Self { path, published: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// It is a version now, under another name.
    pub(super) fn published(mut self) {
        self.published = true;
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed now is hidden, and removed by a later publish.
            let _left = std::fs::remove_dir_all(&self.path);
        }
    }
}
