//! The files of a listener's TLS settings, read whole.
//!
//! Owns the reading, its bound, and the warning of a key that others can read. What is in the files is never
//! shown: an error names the path.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::server::{ServerOptions, TlsError};
use crate::whole_file::{Unread, read_at_most};

/// The most that one file may have: lists of authorities have some 250 KiB, revocation lists some MiB.
const MOST: u64 = 16 << 20;

/// How often files that change all the time are read: the last reading counts, and the next look sees the next.
const READINGS: usize = 8;

/// The bytes of all files, as they were at one time.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Material {
    pub(super) cert: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) client_ca: Option<Vec<u8>>,
    pub(super) client_crl: Option<Vec<u8>>,
}

impl Material {
    /// Reads all files.
    ///
    /// # Errors
    /// The first that cannot be read, by its path.
    pub(super) fn read(options: &ServerOptions) -> Result<Self, TlsError> {
        let optional = |path: &Option<_>| path.as_deref().map(read).transpose();
        Ok(Self {
            cert: read(&options.cert)?,
            key: read(&options.key)?,
            client_ca: optional(&options.client_ca)?,
            client_crl: optional(&options.client_crl)?,
        })
    }

    /// The same, read again until two readings agree: files that are replaced between one and the next, as a
    /// mounted secret's are, would give a certificate with the key of another.
    ///
    /// # Errors
    /// The first that cannot be read, by its path.
    pub(super) fn settle(self, options: &ServerOptions) -> Result<Self, TlsError> {
        let mut last = self;
        for _ in 0..READINGS {
            let again = Self::read(options)?;
            if again == last {
                break;
            }
            last = again;
        }
        Ok(last)
    }
}

/// A file's bytes, if they are not too many.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    read_at_most(path, MOST).map_err(|unread| match unread {
        Unread::TooLarge => TlsError::of(path, format!("has more than {} MiB", MOST >> 20)),
        other => TlsError::of(path, format!("cannot be read: {other}")),
    })
}

/// What to say of a key's file that users beyond its owner and group can read, or that the group can write.
pub(super) fn open_to_others(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.mode();
    // Kubernetes gives secrets to the group that the pod runs with: reading by the group is in order.
    (mode & 0o027 != 0).then(|| {
        format!(
            "'{}' can be read or changed by others (mode {:03o}); whoever reads it can pass for this server: chmod 600",
            path.display(),
            mode & 0o777
        )
    })
}
