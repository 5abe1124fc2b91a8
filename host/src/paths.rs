//! Where this machine keeps what can be made again.
//!
//! Owns the choice of the cache folder, and that what is believed without a look is kept where nobody else
//! can write. It never writes a file.

use std::path::{Path, PathBuf};

/// `NUKE_CACHE`, else `nuke` in `XDG_CACHE_HOME`, else `.cache/nuke` in the home folder; relative ones do
/// not count.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("NUKE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("nuke")))
        .or_else(|| set("HOME").map(|folder| folder.join(".cache").join("nuke")))
}

/// Makes a folder that nobody else may write to: what lies in it is run, or believed, as it is. One that is
/// there already is checked, never changed.
///
/// # Errors
/// What is wrong with it.
#[cfg(unix)]
pub fn ensure_private(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};

    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| error.to_string())?;
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err("the folder belongs to another user".to_owned());
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(format!("others may write to the folder (mode {:o})", metadata.mode() & 0o777));
    }
    Ok(())
}

/// As above, without a look at who may write to it.
///
/// # Errors
/// It cannot be made.
#[cfg(not(unix))]
pub fn ensure_private(path: &Path) -> Result<(), String> {
    std::fs::create_dir_all(path).map_err(|error| error.to_string())
}
