//! Files that are read anew when they change.
//!
//! Owns the looking: metadata, four times a second, on a thread of its own. No event of the system is needed, so that it
//! is the same on every file system, and for the swapped links of a Kubernetes secret. What could not be read is tried
//! again, ever more rarely: a disk or a table of open files that fails for a moment must not lose a revocation.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::whole_file::{Unread, read_regular_at_most};

/// From one look to the next: a key that is revoked is refused within a second.
const LOOK: Duration = Duration::from_millis(250);
/// The most looks that are passed over before a file that could not be read is tried again.
const MOST_PASSED_OVER: u32 = 40;

/// What tells one content from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The stamp of a file; `None` if there is none.
fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some(Stamp {
        inode: found.ino(),
        size: found.size(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

/// A file as it was when it was last looked at.
#[derive(Clone, Debug)]
struct Followed {
    path: PathBuf,
    /// What was read last.
    read: Option<Stamp>,
    /// What could not be read, how often that was tried, and the looks until it is tried again.
    failed: Option<(Option<Stamp>, u32, u32)>,
    /// What is being read.
    now: Option<Stamp>,
}

/// Files, and what of them has been read.
#[derive(Clone, Debug, Default)]
pub(super) struct Files(Vec<Followed>);

impl Files {
    /// Files that are about to be read for the first time: what changes from now on is seen.
    pub(super) fn about_to_be_read(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let followed = |path: PathBuf| {
            let now = stamp(&path);
            Followed { path, read: now, failed: None, now }
        };
        Self(paths.into_iter().map(followed).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are to be read now. What is read has to be looked at after this.
    fn due(&mut self) -> Vec<PathBuf> {
        self.0.iter_mut().filter_map(Followed::due).collect()
    }

    /// Those that were due have been read, but for `failed`.
    fn done(&mut self, due: &[PathBuf], failed: &[PathBuf]) {
        for file in self.0.iter_mut().filter(|file| due.contains(&file.path)) {
            if failed.contains(&file.path) {
                let times = file.failed.map_or(0, |(_, times, _)| times) + 1;
                let passed_over = 2_u32.saturating_pow(times).min(MOST_PASSED_OVER);
                file.failed = Some((file.now, times, passed_over));
            } else {
                (file.read, file.failed) = (file.now, None);
            }
        }
    }
}

impl Followed {
    fn due(&mut self) -> Option<PathBuf> {
        self.now = stamp(&self.path);
        if self.now == self.read {
            self.failed = None;
            return None;
        }
        if let Some((tried, _, passed_over)) = &mut self.failed
            && *tried == self.now
            && *passed_over > 0
        {
            *passed_over -= 1;
            return None;
        }
        Some(self.path.clone())
    }
}

/// Calls `changed` four times a second with the files that are others, for as long as it returns those of them that could
/// not be read rather than nothing.
pub(super) fn follow(
    mut files: Files,
    mut changed: impl FnMut(&[PathBuf]) -> Option<Vec<PathBuf>> + Send + 'static,
) -> std::io::Result<()> {
    let look = move || loop {
        std::thread::sleep(LOOK);
        let due = files.due();
        let Some(failed) = changed(&due) else {
            return;
        };
        files.done(&due, &failed);
    };
    std::thread::Builder::new().name("nuke-auth".to_owned()).spawn(look).map(drop)
}

/// Reads a file of at most `most` bytes.
///
/// # Errors
/// Why it cannot be used, with its path.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    read_regular_at_most(path, most).map_err(|unread| match unread {
        Unread::TooLarge => format!("{}: larger than {most} bytes", path.display()),
        other => format!("{}: cannot be read: {other}", path.display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(files: &mut Files, can_be_read: bool) -> bool {
        let due = files.due();
        files.done(&due, if can_be_read { &[] } else { &due });
        !due.is_empty()
    }

    #[test]
    fn what_cannot_be_read_is_tried_again_ever_more_rarely_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.yaml");
        std::fs::write(&path, "a").unwrap();
        let mut files = Files::about_to_be_read([path.clone()]);
        assert!(!look(&mut files, true));
        std::fs::write(&path, "a and b").unwrap();
        let tries: Vec<usize> = (0..200).filter(|_| look(&mut files, false)).collect();
        assert_eq!(tries[..4], [0, 3, 8, 17]);
        assert!(tries.len() > 7 && tries.windows(2).all(|pair| pair[1] - pair[0] <= 41), "{tries:?}");
        // One that is another again is tried at once.
        std::fs::write(&path, "a, b and c").unwrap();
        assert!(look(&mut files, true) && !look(&mut files, true));
        std::fs::remove_file(&path).unwrap();
        assert!(look(&mut files, false) && !look(&mut files, false));
    }

    #[test]
    fn what_changes_between_the_first_reading_and_the_first_look_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.yaml");
        std::fs::write(&path, "a").unwrap();
        let mut files = Files::about_to_be_read([path.clone()]);
        std::fs::write(&path, "none").unwrap();
        assert!(look(&mut files, true));
    }
}
