//! The folder that a library is installed in.
//!
//! Owns how it comes there: unpacked beside it, held against the pins, and renamed into place one by one, the
//! library itself last. What else lies in the folder is left alone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::error::InstallError;
use super::https::Client;
use super::pins::{Flavour, Pin, VERSION};
use super::settings::Registry;
use super::{download, wheel};

/// What is unpacked and not yet in place.
const UNPACKED: &str = ".nuke-unpacked";

/// What is to be installed.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Which package.
    pub pin: &'a Pin,
    /// Where its libraries go.
    pub folder: &'a Path,
    /// The package's file, if it is not to be fetched.
    pub from: Option<&'a Path>,
    /// Install it whether or not it is there.
    pub force: bool,
}

/// How a library stands in its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There is nothing.
    Missing,
    /// All files are there, as they are pinned.
    Intact,
    /// This file is not there, or is another one.
    Damaged(&'static str),
}

/// Where a library is kept in the cache folder.
pub fn folder(cache: &Path, flavour: Flavour) -> PathBuf {
    cache.join(flavour.package()).join(VERSION)
}

/// Holds the files in a folder against their pins. Reads all of them.
pub fn inspect(pin: &Pin, folder: &Path) -> State {
    if pin.files.iter().all(|file| !folder.join(file.name).exists()) {
        return State::Missing;
    }
    let is_wrong = |file: &&super::PinnedFile| {
        wheel::file_sha256(&folder.join(file.name)).map_or(true, |digest| digest != file.sha256)
    };
    pin.files.iter().find(is_wrong).map_or(State::Intact, |file| State::Damaged(file.name))
}

/// Installs a library, unless it is there, and returns its path. Waits for another process that does the same.
/// `registry` is asked only if something has to be fetched.
///
/// # Errors
/// [`InstallError`].
pub async fn install(
    order: Order<'_>,
    registry: impl FnOnce() -> Result<Registry, InstallError>,
    bar: &ProgressBar,
) -> Result<PathBuf, InstallError> {
    let Order { pin, folder, from, force } = order;
    fs::create_dir_all(folder).map_err(InstallError::file("create", folder))?;
    let lock = folder.join(".nuke-lock");
    let held = File::create(&lock).and_then(|file| file.lock().map(|()| file));
    let _held = held.map_err(InstallError::file("lock", &lock))?;
    if force || inspect(pin, folder) != State::Intact {
        match from {
            Some(file) => {
                wheel::verify(file, pin)?;
                unpack(file, pin, folder)?;
            }
            None => {
                bar.set_length(pin.size);
                let client = Client::new(registry()?)?;
                let fetched = download::fetch(&client, pin, folder, bar).await?;
                unpack(&fetched, pin, folder)?;
                fs::remove_file(&fetched).map_err(InstallError::file("remove", &fetched))?;
            }
        }
    }
    link(pin, folder)
}

fn unpack(package: &Path, pin: &Pin, folder: &Path) -> Result<(), InstallError> {
    let unpacked = Unpacked::make(folder)?;
    wheel::unpack(package, pin, &unpacked.0)?;
    // The library last: with it in place, all that it loads is.
    for file in pin.files.iter().rev() {
        let target = folder.join(file.name);
        fs::rename(unpacked.0.join(file.name), &target).map_err(InstallError::file("write", &target))?;
    }
    Ok(())
}

/// A folder that goes when it is dropped; one that a process left behind which was killed goes before.
struct Unpacked(PathBuf);

impl Unpacked {
    fn make(folder: &Path) -> Result<Self, InstallError> {
        let path = folder.join(UNPACKED);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(InstallError::file("empty", &path))?;
        }
        fs::create_dir(&path).map_err(InstallError::file("create", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        // What is left is emptied by the next one.
        let _left = fs::remove_dir_all(&self.0);
    }
}

/// The library under its plain name, beside the one with the version.
fn link(pin: &Pin, folder: &Path) -> Result<PathBuf, InstallError> {
    let name = pin.files.first().map_or("libonnxruntime.so", |file| file.name);
    let plain =
        folder.join(if name.ends_with(".dylib") { "libonnxruntime.dylib" } else { "libonnxruntime.so" });
    if fs::read_link(&plain).is_ok_and(|target| target == Path::new(name)) {
        return Ok(plain);
    }
    let fresh = folder.join(".nuke-link");
    let made = match std::os::unix::fs::symlink(name, &fresh) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    };
    made.and_then(|()| fs::rename(&fresh, &plain)).map_err(InstallError::file("write", &plain))?;
    Ok(plain)
}

#[cfg(test)]
#[path = "library_tests.rs"]
mod tests;
