//! `manifest.json`: which files a version consists of, each with its size and its sha-256.
//!
//! Owns the file's form, what is refused in it, and holding a folder or the bytes of one file against it.
//! It never decides what becomes of a version that differs, and never writes into a folder that is
//! served.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::files;

/// The manifest's name in a version's folder.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The name of the signature of the manifest, beside it.
pub(super) const SIGNATURE_FILE: &str = "manifest.json.minisig";
/// The largest manifest, in bytes: [`files::COUNT`] files with usual paths.
const LARGEST: usize = 4 << 20;
/// The longest path of a file, in bytes.
const LONGEST_PATH: usize = 1024;
/// The form that this host writes and reads.
const FORMAT: u32 = 1;
/// Bytes that are hashed or copied at a time.
pub(super) const CHUNK: usize = 1 << 20;

/// The size and the hash of a file's content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FileSum {
    /// In bytes.
    pub size: u64,
    /// The sha-256 of all of them.
    pub sha256: [u8; 32],
}

impl FileSum {
    /// Of content that is in memory.
    pub fn of(content: &[u8]) -> Self {
        Self { size: content.len() as u64, sha256: Sha256::digest(content).into() }
    }

    /// Of everything that is still to be read.
    pub(super) fn read(mut from: impl Read) -> std::io::Result<Self> {
        let mut sum = Summing::default();
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = match from.read(&mut chunk) {
                Ok(0) => return Ok(sum.finish()),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            sum.update(chunk.get(..count).unwrap_or_default());
        }
    }

    /// The hash in hexadecimal.
    pub fn hex(&self) -> String {
        self.sha256.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for FileSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {}", self.size, self.hex())
    }
}

/// A sum in the making.
#[derive(Default)]
pub(super) struct Summing {
    size: u64,
    hasher: Sha256,
}

impl Summing {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.hasher.update(bytes);
    }

    pub(super) fn finish(self) -> FileSum {
        FileSum { size: self.size, sha256: self.hasher.finalize().into() }
    }
}

/// One way in which a version differs from its manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// A listed file is not there.
    #[error("{path} is missing; {MANIFEST_FILE} lists it with {size} bytes", size = .listed.size)]
    Missing {
        /// The file.
        path: String,
        /// As it was published.
        listed: FileSum,
    },
    /// A file is there that is not listed.
    #[error("{path} is not listed in {MANIFEST_FILE}; remove it, or publish a new version with it")]
    Extra {
        /// The file.
        path: String,
    },
    /// A file is shorter or longer.
    #[error(
        "{path} has {found} bytes, {MANIFEST_FILE} lists it with {size}; publish the version again",
        size = .listed.size
    )]
    Size {
        /// The file.
        path: String,
        /// As it was published.
        listed: FileSum,
        /// Its bytes now.
        found: u64,
    },
    /// A file has the right size and other content.
    #[error(
        "{path} has the sha-256 {found}, {MANIFEST_FILE} lists it with {listed}; publish the version again",
        found = .found.hex(), listed = .listed.hex()
    )]
    Content {
        /// The file.
        path: String,
        /// As it was published.
        listed: FileSum,
        /// As it is now.
        found: FileSum,
    },
    /// A file or the folder cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

/// The files of a version as they were published, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    files: BTreeMap<String, FileSum>,
}

/// The file's form. Unknown keys are refused: a later form has another number.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    files: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    size: u64,
    sha256: String,
}

impl Manifest {
    /// A manifest of these files.
    ///
    /// # Errors
    /// A path that no manifest may have, too many files, or a manifest that would be too large.
    pub fn new(files: BTreeMap<String, FileSum>) -> Result<Self, String> {
        check_count(files.len())?;
        files.keys().try_for_each(|path| check_path(path))?;
        let manifest = Self { files };
        let size = manifest.to_json().len();
        if size > LARGEST {
            return Err(format!("{MANIFEST_FILE} would have {size} bytes, at most {LARGEST} are read"));
        }
        Ok(manifest)
    }

    /// Reads the manifest of a folder, with the bytes it was read from; `None` if it has none.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn read(folder: &Path) -> Result<Option<(Self, Vec<u8>)>, String> {
        if folder.join(MANIFEST_FILE).symlink_metadata().is_err_and(|error| is_missing(&error)) {
            return Ok(None);
        }
        let path = files::real_path_within(folder, Path::new(MANIFEST_FILE))?;
        let bytes = files::read_at_most(&path, LARGEST as u64)?;
        let manifest = Self::parse(&bytes).map_err(|reason| format!("{}: {reason}", path.display()))?;
        Ok(Some((manifest, bytes)))
    }

    /// Reads the text of a manifest.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        if text.len() > LARGEST {
            return Err(format!("a manifest has at most {LARGEST} bytes"));
        }
        let document: Document =
            serde_json::from_slice(text).map_err(|error| format!("it is no manifest: {error}"))?;
        if document.format != FORMAT {
            return Err(format!("it has the format {}, this host reads {FORMAT}", document.format));
        }
        check_count(document.files.len())?;
        let mut listed = BTreeMap::new();
        for Entry { path, size, sha256 } in document.files {
            check_path(&path)?;
            let sha256 = from_hex(&sha256).ok_or_else(|| {
                format!("'{path}': expected a sha-256 of 64 digits 0-9 and a-f, got '{}'", cut(&sha256))
            })?;
            if listed.insert(path.clone(), FileSum { size, sha256 }).is_some() {
                return Err(format!("'{path}' is listed twice"));
            }
        }
        Ok(Self { files: listed })
    }

    /// The manifest as it is written: sorted by path, one file a line, the same for the same files.
    pub fn to_json(&self) -> String {
        let lines = self.files.iter().map(|(path, sum)| {
            let path = serde_json::Value::from(path.as_str());
            format!("    {{\"path\": {path}, \"size\": {}, \"sha256\": \"{}\"}}", sum.size, sum.hex())
        });
        let lines = lines.collect::<Vec<_>>().join(",\n");
        format!("{{\n  \"format\": {FORMAT},\n  \"files\": [\n{lines}\n  ]\n}}\n")
    }

    /// The files, by path.
    pub fn files(&self) -> &BTreeMap<String, FileSum> {
        &self.files
    }

    /// The bytes of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.values().fold(0, |total, sum| total.saturating_add(sum.size))
    }

    /// Holds the content of one file, as it is going to be used, against what is listed.
    ///
    /// # Errors
    /// How it differs.
    pub fn check(&self, path: &str, content: &[u8]) -> Result<(), Mismatch> {
        let Some(listed) = self.files.get(path) else {
            return Err(Mismatch::Extra { path: path.to_owned() });
        };
        compare(path, *listed, content.len() as u64, || Ok(FileSum::of(content)))
    }

    /// Holds the names and sizes of a folder's files against what is listed, without reading them.
    /// Hidden files, the manifest and its signature do not count.
    ///
    /// # Errors
    /// All that differs, by path. While files are still being copied into place, some are missing or
    /// short.
    pub fn check_sizes(&self, folder: &Path) -> Result<(), Vec<Mismatch>> {
        self.hold_against(folder, false)
    }

    /// Holds a folder against what is listed, and reads every file for it.
    ///
    /// # Errors
    /// All that differs, by path.
    pub fn verify(&self, folder: &Path) -> Result<(), Vec<Mismatch>> {
        self.hold_against(folder, true)
    }

    fn hold_against(&self, folder: &Path, content: bool) -> Result<(), Vec<Mismatch>> {
        let there = files::list(folder).map_err(|reason| vec![Mismatch::Unreadable(reason)])?;
        let mut there: BTreeMap<String, Option<FileSum>> =
            there.into_iter().filter(|path| !is_own(path)).map(|path| (path, None)).collect();
        there.extend(self.files.iter().map(|(path, sum)| (path.clone(), Some(*sum))));
        let judge = |(path, listed): (String, Option<FileSum>)| match listed {
            None => Some(Mismatch::Extra { path }),
            Some(listed) => hold_file(folder, &path, listed, content).err(),
        };
        let mismatches: Vec<_> = there.into_iter().filter_map(judge).collect();
        if mismatches.is_empty() { Ok(()) } else { Err(mismatches) }
    }
}

/// Whether a file of a version's folder belongs to the manifest rather than to the version.
pub(super) fn is_own(path: &str) -> bool {
    path == MANIFEST_FILE || path == SIGNATURE_FILE
}

fn hold_file(folder: &Path, path: &str, listed: FileSum, content: bool) -> Result<(), Mismatch> {
    let place = folder.join(path);
    let metadata = match std::fs::metadata(&place) {
        Ok(metadata) => metadata,
        Err(error) if is_missing(&error) => {
            return Err(Mismatch::Missing { path: path.to_owned(), listed });
        }
        Err(error) => {
            return Err(Mismatch::Unreadable(format!("{} cannot be read: {error}", place.display())));
        }
    };
    if !metadata.is_file() {
        return Err(Mismatch::Unreadable(format!("{} is no plain file", place.display())));
    }
    let real = files::real_path_within(folder, Path::new(path)).map_err(Mismatch::Unreadable)?;
    compare(path, listed, metadata.len(), || {
        if !content {
            return Ok(listed);
        }
        let sum = File::open(real).and_then(FileSum::read);
        sum.map_err(|error| Mismatch::Unreadable(format!("{} cannot be read: {error}", place.display())))
    })
}

fn compare(
    path: &str,
    listed: FileSum,
    size: u64,
    sum: impl FnOnce() -> Result<FileSum, Mismatch>,
) -> Result<(), Mismatch> {
    let path = path.to_owned();
    if size != listed.size {
        return Err(Mismatch::Size { path, listed, found: size });
    }
    match sum()? {
        found if found == listed => Ok(()),
        found if found.size != listed.size => Err(Mismatch::Size { path, listed, found: found.size }),
        found => Err(Mismatch::Content { path, listed, found }),
    }
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn check_count(count: usize) -> Result<(), String> {
    match count {
        0 => Err("it lists no file".to_owned()),
        _ if count > files::COUNT => {
            Err(format!("it lists {count} files, at most {} are served", files::COUNT))
        }
        _ => Ok(()),
    }
}

/// Whether a path can stand in a manifest: relative, of plain parts, none of them hidden.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    let refused = |reason: &str| Err(format!("path '{}': {reason}", cut(path)));
    if path.len() > LONGEST_PATH {
        return refused("longer than 1024 bytes");
    }
    if path.starts_with('/') {
        return refused("absolute; expected one inside the version's folder");
    }
    if path.contains(|character: char| character == '\\' || character.is_control()) {
        return refused("has a backslash or a control character");
    }
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return refused("has an empty part, '.' or '..'");
    }
    if path.split('/').any(|part| part.starts_with('.')) {
        return refused("is hidden; hidden files are no part of a version");
    }
    if is_own(path) {
        return refused("is the manifest's own");
    }
    Ok(())
}

/// Text from outside, cut to what fits a message.
fn cut(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_debug).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits: Vec<u8> = text.bytes().map(digit).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    bytes.try_into().ok()
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
