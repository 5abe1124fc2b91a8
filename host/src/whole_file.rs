//! Reading a file whole, within a bound.
//!
//! Owns that no more is read than the bound and one byte, whatever the file's size is said to be. What is wrong is told
//! by each caller in words of its own.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Why a file was not read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The system says so.
    Failed(io::Error),
    /// It is a folder, a pipe or a device.
    NotRegular,
    /// It has more bytes than were asked for.
    TooLarge,
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::NotRegular => f.write_str("not a regular file"),
            Self::TooLarge => f.write_str("too large"),
        }
    }
}

/// Reads a file of at most `most` bytes, whatever kind of file it is.
pub(crate) fn read_at_most(path: &Path, most: u64) -> Result<Vec<u8>, Unread> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(Unread::TooLarge) } else { Ok(bytes) }
}

/// Reads a regular file of at most `most` bytes. It is looked at before it is opened: opening a pipe would wait for a
/// writer.
pub(crate) fn read_regular_at_most(path: &Path, most: u64) -> Result<Vec<u8>, Unread> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(Unread::NotRegular);
    }
    read_at_most(path, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_no_file_or_not_there_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("four");
        std::fs::write(&path, "four").unwrap();
        for read in [read_at_most, read_regular_at_most] {
            assert_eq!(read(&path, 4).unwrap(), b"four");
            assert_eq!(read(&path, u64::MAX).unwrap(), b"four");
            assert!(matches!(read(&path, 3), Err(Unread::TooLarge)));
            let missing = read(&folder.path().join("none"), 4);
            assert!(matches!(missing, Err(Unread::Failed(error)) if error.kind() == io::ErrorKind::NotFound));
        }
        assert!(matches!(read_regular_at_most(folder.path(), 4), Err(Unread::NotRegular)));
        // It never ends, and says that it has no bytes.
        assert!(matches!(read_at_most(Path::new("/dev/zero"), 4), Err(Unread::TooLarge)));
        assert!(matches!(read_regular_at_most(Path::new("/dev/zero"), 4), Err(Unread::NotRegular)));
    }
}
