//! The libraries in a package file.
//!
//! Owns the reading of a wheel, which is a zip file: only the entries that are asked for, each to its last
//! byte, and only with the digest that is pinned. Names in the file are compared, never used as paths.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::path::Path;

use flate2::read::DeflateDecoder;
use sha2::{Digest as _, Sha256};

use super::error::InstallError;
use super::pins::{Pin, PinnedFile};

/// Where libraries lie in the packages.
const FOLDER: &str = "onnxruntime/capi/";
/// The end record with the longest comment.
const LONGEST_END: u64 = 22 + 65_535;
/// Bytes of the list of entries.
const LARGEST_LIST: u64 = 16 << 20;

/// Where an entry's bytes are.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    method: u16,
    packed: u64,
    size: u64,
    header: u64,
}

/// Holds a package against its pin.
///
/// # Errors
/// [`InstallError::Digest`], or it cannot be read.
pub(super) fn verify(wheel: &Path, pin: &Pin) -> Result<(), InstallError> {
    let found = file_sha256(wheel).map_err(InstallError::file("read", wheel))?;
    if found == pin.sha256 {
        return Ok(());
    }
    Err(InstallError::Digest { file: wheel.display().to_string(), found, expected: pin.sha256 })
}

/// Writes the pinned libraries into a folder.
///
/// # Errors
/// The package lacks one, one has another digest, or it cannot be written.
pub(super) fn unpack(wheel: &Path, pin: &Pin, into: &Path) -> Result<(), InstallError> {
    let mut file = File::open(wheel).map_err(InstallError::file("open", wheel))?;
    let broken = |problem: String| InstallError::Wheel { path: wheel.to_owned(), problem };
    let list = read_list(&mut file).map_err(broken)?;
    for wanted in pin.files {
        let name = format!("{FOLDER}{}", wanted.name);
        let entry =
            find(&list, name.as_bytes()).ok_or_else(|| broken(format!("there is no {name} in it")))?;
        let source = open(&mut file, &entry).map_err(|problem| broken(format!("{name}: {problem}")))?;
        write(source, wanted, &into.join(wanted.name), entry.size)?;
    }
    Ok(())
}

fn write(mut from: impl Read, wanted: &PinnedFile, path: &Path, size: u64) -> Result<(), InstallError> {
    let mut target = File::create(path).map_err(InstallError::file("create", path))?;
    let (mut digest, mut buffer, mut left) = (Sha256::new(), vec![0_u8; 1 << 17], size);
    loop {
        let came = match from.read(&mut buffer) {
            Ok(came) => came,
            Err(error) => {
                return Err(InstallError::Wheel { path: wanted.name.into(), problem: error.to_string() });
            }
        };
        let (Some(piece), Some(rest)) = (buffer.get(..came), left.checked_sub(came as u64)) else {
            let problem = format!("it unpacks to more than the {size} bytes that are declared");
            return Err(InstallError::Wheel { path: wanted.name.into(), problem });
        };
        if came == 0 {
            break;
        }
        left = rest;
        digest.update(piece);
        target.write_all(piece).map_err(InstallError::file("write", path))?;
    }
    target.sync_all().map_err(InstallError::file("write", path))?;
    let found = hex(digest);
    if found == wanted.sha256 {
        return Ok(());
    }
    Err(InstallError::Digest { file: wanted.name.to_owned(), found, expected: wanted.sha256 })
}

/// The list of entries at the end of a zip file.
fn read_list(file: &mut File) -> Result<Vec<u8>, String> {
    let no_zip = || "it is no zip file; was it copied whole?".to_owned();
    let length = file.seek(SeekFrom::End(0)).map_err(|error| error.to_string())?;
    let tail = read_at(file, length.saturating_sub(LONGEST_END), length.min(LONGEST_END))?;
    let at = tail.windows(4).rposition(|bytes| bytes == b"PK\x05\x06").ok_or_else(no_zip)?;
    let end = tail.get(at..).ok_or_else(no_zip)?;
    let (size, offset) = (number(end, 12, 4).ok_or_else(no_zip)?, number(end, 16, 4).ok_or_else(no_zip)?);
    if size > LARGEST_LIST || offset.checked_add(size).is_none_or(|end| end > length) {
        return Err(no_zip());
    }
    read_at(file, offset, size)
}

/// The entry of this name.
fn find(list: &[u8], name: &[u8]) -> Option<Entry> {
    let mut rest = list;
    loop {
        if !rest.starts_with(b"PK\x01\x02") {
            return None;
        }
        let length = |at: usize| number(rest, at, 2).and_then(|length| usize::try_from(length).ok());
        let (names, extra, comment) = (length(28)?, length(30)?, length(32)?);
        if rest.get(46..46 + names)? == name {
            return Some(Entry {
                method: u16::try_from(number(rest, 10, 2)?).ok()?,
                packed: number(rest, 20, 4)?,
                size: number(rest, 24, 4)?,
                header: number(rest, 42, 4)?,
            });
        }
        rest = rest.get(46 + names + extra + comment..)?;
    }
}

/// An entry's bytes, unpacked.
fn open<'f>(file: &'f mut File, entry: &Entry) -> Result<Box<dyn Read + 'f>, String> {
    let header = read_at(file, entry.header, 30)?;
    let lengths = (number(&header, 26, 2), number(&header, 28, 2));
    let (Some(names), Some(extra), true) = (lengths.0, lengths.1, header.starts_with(b"PK\x03\x04")) else {
        return Err("its header is not where it should be".to_owned());
    };
    let start = entry.header + 30 + names + extra;
    file.seek(SeekFrom::Start(start)).map_err(|error| error.to_string())?;
    let packed = file.take(entry.packed);
    match entry.method {
        0 => Ok(Box::new(packed)),
        8 => Ok(Box::new(DeflateDecoder::new(io::BufReader::new(packed)))),
        other => Err(format!("it is packed by method {other}, expected 0 or 8")),
    }
}

fn read_at(file: &mut File, offset: u64, length: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset)).map_err(|error| error.to_string())?;
    file.take(length).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// A little-endian number of `width` bytes.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + width)?;
    Some(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

/// A file's SHA-256, in hexadecimal.
pub(super) fn file_sha256(path: &Path) -> io::Result<String> {
    let (mut file, mut digest, mut buffer) = (File::open(path)?, Sha256::new(), vec![0_u8; 1 << 17]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(digest)),
            came => digest.update(buffer.get(..came).unwrap_or_default()),
        }
    }
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of some bytes, in hexadecimal.
#[cfg(test)]
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::new_with_prefix(bytes))
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A zip file of these entries, every second one packed.
    pub(in crate::install) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut file, mut list) = (Vec::new(), Vec::new());
        for (index, (name, bytes)) in entries.iter().enumerate() {
            let method = if index % 2 == 0 { 8_u16 } else { 0 };
            let packed = if method == 8 {
                let mut encoder =
                    flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            } else {
                bytes.to_vec()
            };
            let offset = u32::try_from(file.len()).unwrap();
            let mut common = Vec::new();
            common.extend([20, 0, 0, 0]);
            common.extend(method.to_le_bytes());
            common.extend([0; 8]);
            common.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
            common.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
            common.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
            common.extend([0, 0]);
            file.extend([&b"PK\x03\x04"[..], &common, name.as_bytes(), &packed].concat());
            list.extend(
                [&b"PK\x01\x02\x14\x00"[..], &common, &[0; 10], &offset.to_le_bytes(), name.as_bytes()]
                    .concat(),
            );
        }
        let mut end = b"PK\x05\x06\0\0\0\0\0\0\0\0".to_vec();
        end.extend(u32::try_from(list.len()).unwrap().to_le_bytes());
        end.extend(u32::try_from(file.len()).unwrap().to_le_bytes());
        end.extend([0, 0]);
        [file, list, end].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pins::testing::pin_of;
    use super::testing::zip;
    use super::*;

    const LIBRARY: &str = "onnxruntime/capi/lib.so";

    fn package() -> (Vec<u8>, Pin) {
        let library = [7_u8; 5000];
        let bytes = zip(&[("onnxruntime/x", b"x"), ("../evil", b"y"), (LIBRARY, &library), ("last", b"z")]);
        let pin = pin_of(&bytes, &[("lib.so", &library)]);
        (bytes, pin)
    }

    fn unpacked(bytes: &[u8], pin: &Pin) -> (Result<(), InstallError>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let (wheel, into) = (folder.path().join("w"), folder.path().join("into"));
        std::fs::write(&wheel, bytes).unwrap();
        std::fs::create_dir(&into).unwrap();
        let outcome = unpack(&wheel, pin, &into);
        let names = std::fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().file_name());
        (outcome, names.map(|name| name.into_string().unwrap()).collect())
    }

    #[test]
    fn only_what_is_pinned_is_unpacked() {
        let (bytes, pin) = package();
        let (outcome, names) = unpacked(&bytes, &pin);
        outcome.unwrap();
        assert_eq!(names, ["lib.so"]);
    }

    #[test]
    fn another_library_than_the_pinned_one_is_refused() {
        let (_, pin) = package();
        let other = zip(&[(LIBRARY, b"something else")]);
        let error = unpacked(&other, &pin).0.unwrap_err().to_string();
        assert!(error.contains("lib.so has SHA-256") && error.contains(pin.files[0].sha256), "{error}");
        let without = zip(&[("onnxruntime/x", b"x")]);
        assert!(
            unpacked(&without, &pin)
                .0
                .unwrap_err()
                .to_string()
                .contains("there is no onnxruntime/capi/lib.so")
        );
        assert!(unpacked(b"no zip", &pin).0.unwrap_err().to_string().contains("copied whole"));
    }

    #[test]
    fn an_entry_that_grows_is_cut_off() {
        let (mut bytes, pin) = package();
        // The declared size in the list of entries.
        let name = bytes.windows(LIBRARY.len()).rposition(|part| part == LIBRARY.as_bytes()).unwrap();
        bytes[name - 46 + 24..name - 46 + 28].copy_from_slice(&10_u32.to_le_bytes());
        assert!(unpacked(&bytes, &pin).0.unwrap_err().to_string().contains("more than the 10 bytes"));
    }

    proptest! {
        #[test]
        fn a_changed_or_cut_package_is_refused_without_a_panic(at in any::<usize>(), byte in any::<u8>(), cut in any::<bool>()) {
            let (mut bytes, pin) = package();
            let at = at % bytes.len();
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] = byte;
            }
            // Whatever comes out has the pinned digest, or is refused.
            let _either = unpacked(&bytes, &pin);
        }
    }
}
