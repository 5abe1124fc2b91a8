//! Owns the small file work that the download steps share: digests, names made of them, writing a
//! file in one move. It never touches the network.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The SHA-256 of a file, in lower-case hex.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn file_sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hasher = HashWriter(Sha256::new());
    io::copy(&mut file, &mut hasher).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hex(hasher.0))
}

/// The first 16 hex digits of the SHA-256 of all parts, each led by its length: a name for what is
/// made of them.
pub(crate) fn short_digest(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut digest = hex(hasher);
    digest.truncate(16);
    digest
}

/// Writes a file so that a reader sees the old one or the new one, whole. Makes the folder; leaves
/// the file alone when it holds these bytes already.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let folder = path.parent().with_context(|| format!("{} is no file", path.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let partial = path.with_extension(format!("tmp-{}", std::process::id()));
    fs::write(&partial, bytes).with_context(|| format!("cannot write {}", partial.display()))?;
    fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}

fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

struct HashWriter(Sha256);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{file_sha256, short_digest, write_whole};

    #[test]
    fn the_digest_is_sha256() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        write_whole(&path, b"abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(file_sha256(&path).unwrap(), expected);
        write_whole(&path, b"").unwrap();
        assert!(file_sha256(&path).unwrap().starts_with("e3b0c44298fc1c14"));
    }

    #[test]
    fn parts_cannot_run_into_each_other() {
        assert_ne!(short_digest(&[b"ab", b"c"]), short_digest(&[b"a", b"bc"]));
        assert_eq!(short_digest(&[]).len(), 16);
    }
}
