//! Files that are read anew when they change.
//!
//! Owns the looking: metadata, four times a second, on a thread of its own. No event of the system is needed, so that it
//! is the same on every file system, and for the swapped links of a Kubernetes secret.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// From one look to the next: a key that is revoked is refused within a second.
const LOOK: Duration = Duration::from_millis(250);

/// What tells one content from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The stamp of a file; `None` if there is none.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some(Stamp {
        inode: found.ino(),
        size: found.size(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

/// Calls `changed` whenever one of the files is another, until `changed` returns false.
pub(super) fn follow(
    paths: Vec<PathBuf>,
    mut changed: impl FnMut(&[PathBuf]) -> bool + Send + 'static,
) -> std::io::Result<()> {
    let mut seen: Vec<Option<Stamp>> = paths.iter().map(|path| stamp(path)).collect();
    let look = move || loop {
        std::thread::sleep(LOOK);
        let now: Vec<_> = paths.iter().map(|path| stamp(path)).collect();
        let differs = paths.iter().zip(now.iter().zip(&seen)).filter(|(_, (now, seen))| now != seen);
        let differs: Vec<PathBuf> = differs.map(|(path, _)| path.clone()).collect();
        seen = now;
        if !changed(&differs) {
            return;
        }
    };
    std::thread::Builder::new().name("nuke-auth".to_owned()).spawn(look).map(drop)
}

/// Reads a file of at most `most` bytes.
///
/// # Errors
/// Why it cannot be used, with its path.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let cannot = |error: std::io::Error| format!("{}: cannot be read: {error}", path.display());
    // Looked at before it is opened: opening a pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err(format!("{}: cannot be read: not a regular file", path.display()));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(cannot)?.take(most + 1).read_to_end(&mut bytes).map_err(cannot)?;
    match bytes.len() as u64 > most {
        true => Err(format!("{}: larger than {most} bytes", path.display())),
        false => Ok(bytes),
    }
}
