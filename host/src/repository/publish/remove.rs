//! Taking a version out of a folder of models.
//!
//! Owns that nobody sees half a version: it loses its name first, and its files after that.

use std::path::{Path, PathBuf};

use super::copy::{cannot_write, sync_folder};
use super::source::cannot_read;
use super::staging::ModelFolder;
use super::{PublishError, check_names};

/// Removes a version and returns where it was.
///
/// # Errors
/// [`PublishError`]. If the files cannot be removed the version is gone all the same, and its files
/// are in a hidden folder that a later publish removes.
pub fn unpublish(models: &Path, model: &str, version: &str) -> Result<PathBuf, PublishError> {
    check_names(model, Some(version))?;
    if !models.is_dir() {
        return Err(PublishError::Usage(format!("there is no folder of models {}", models.display())));
    }
    let path = models.join(model).join(version);
    let metadata = path.symlink_metadata().map_err(|error| cannot_read(&path, &error))?;
    if !metadata.is_dir() {
        let reason = format!("{} is no folder; remove it by hand", path.display());
        return Err(PublishError::Refused(reason));
    }
    let folder = ModelFolder::open(models, model)?;
    let hidden = folder.hidden_name();
    std::fs::rename(&path, &hidden).map_err(|error| cannot_write(&path, &error))?;
    sync_folder(folder.path()).map_err(PublishError::Refused)?;
    std::fs::remove_dir_all(&hidden).map_err(|error| {
        PublishError::Refused(format!(
            "{} is no version any more, but its files cannot be removed: {error}; they are in {}",
            path.display(),
            hidden.display()
        ))
    })?;
    Ok(path)
}
