//! What a worker's process opens: a model's bytes in one piece of shared memory, with how they are to be opened.
//!
//! Owns the layout: a length, a head in JSON, then each file at an offset that suits any datatype. It is made
//! once for each generation, sealed, and handed to each of its workers; their pages are the same memory.

use serde::{Deserialize, Serialize};

use super::memory::Memory;
use crate::model::{ModelSource, SessionOptions};

/// Where files begin: at a page, so that a worker that does not touch one does not have it.
const ALIGNMENT: usize = 4096;
/// Bytes of a head, at most: names of files.
const MOST_HEAD: usize = 16 << 20;

/// How a worker opens its model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// Threads within one operator.
    pub(super) intra_threads: usize,
    /// How its session is opened.
    pub(super) session: SessionOptions,
}

/// A file within the package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    /// The path that the model writes; none for the model itself.
    name: Option<String>,
    offset: usize,
    length: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    settings: Settings,
    parts: Vec<Part>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Package(Memory);

impl Package {
    /// Copies a model into shared memory and seals it.
    ///
    /// # Errors
    /// There is not so much of it.
    pub(super) fn new(source: &ModelSource, settings: Settings) -> Result<Self, String> {
        let files = source.external().iter().map(|(name, bytes)| (Some(name.clone()), bytes.as_ref()));
        let files: Vec<(Option<String>, &[u8])> =
            std::iter::once((None, source.model().as_ref())).chain(files).collect();
        let mut head = Head { settings, parts: Vec::new() };
        // Offsets are counted from where the files begin, which depends on the head's length.
        let mut at = 0_usize;
        for (name, bytes) in &files {
            head.parts.push(Part { name: name.clone(), offset: at, length: bytes.len() });
            let end = at.checked_add(bytes.len()).and_then(|end| end.checked_next_multiple_of(ALIGNMENT));
            at = end.ok_or("the model's files do not fit into memory")?;
        }
        let text = serde_json::to_vec(&head).map_err(|error| format!("the package's head: {error}"))?;
        let begin = (text.len() + 8).next_multiple_of(ALIGNMENT);
        let size = begin.checked_add(at).ok_or("the model's files do not fit into memory")?;
        let write = || {
            let memory = Memory::create("nuke-model", size)?;
            memory.write(&(text.len() as u64).to_le_bytes(), 0)?;
            memory.write(&text, 8)?;
            for (part, (_, bytes)) in head.parts.iter().zip(&files) {
                memory.write(bytes, begin + part.offset)?;
            }
            memory.seal()?;
            Ok(memory)
        };
        write().map(Self).map_err(|error: std::io::Error| {
            format!("{size} bytes of shared memory for the model's files cannot be had: {error}")
        })
    }

    /// The memory that is handed to workers.
    pub(super) fn memory(&self) -> &Memory {
        &self.0
    }
}

/// Reads a package where it lies, without a copy of any file.
///
/// # Errors
/// It is not one that [`Package::new`] has made.
pub(super) fn open(memory: &Memory) -> Result<(Settings, ModelSource), String> {
    let bytes = memory.map().map_err(|error| format!("the model's files cannot be mapped: {error}"))?;
    let wrong = || "the package of the model's files does not add up".to_owned();
    let length = bytes.first_chunk::<8>().map(|length| u64::from_le_bytes(*length)).ok_or_else(wrong)?;
    let length = usize::try_from(length).ok().filter(|&length| length <= MOST_HEAD).ok_or_else(wrong)?;
    let text = bytes.get(8..8 + length).ok_or_else(wrong)?;
    let head: Head = serde_json::from_slice(text).map_err(|error| format!("{}: {error}", wrong()))?;
    let begin = (length + 8).next_multiple_of(ALIGNMENT);
    let slice = |part: &Part| {
        let start = begin.checked_add(part.offset).ok_or_else(wrong)?;
        let end = start.checked_add(part.length).filter(|&end| end <= bytes.len()).ok_or_else(wrong)?;
        Ok::<_, String>(bytes.slice(start..end))
    };
    let model = head.parts.first().filter(|part| part.name.is_none()).ok_or_else(wrong)?;
    let read = |location: &str| {
        let part = head.parts.iter().find(|part| part.name.as_deref() == Some(location));
        slice(part.ok_or_else(|| "it was not handed over".to_owned())?)
    };
    let source = ModelSource::new(slice(model)?, read).map_err(|error| error.to_string())?;
    Ok((head.settings, source))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn package() -> Package {
        let source = ModelSource::new(Bytes::new(), |_| Err(String::new())).unwrap();
        Package::new(&source, Settings { intra_threads: 2, session: SessionOptions::default() }).unwrap()
    }

    #[test]
    fn what_is_packed_is_opened_by_another_process() {
        let package = package();
        let handle = package.memory().as_fd().try_clone_to_owned().unwrap();
        let received = Memory::received(handle, package.memory().size() as u64).unwrap();
        let (settings, source) = open(&received).unwrap();
        assert_eq!(settings, Settings { intra_threads: 2, session: SessionOptions::default() });
        assert!(source.model().is_empty() && source.external().is_empty());
        assert!(received.write(b"x", 0).is_err(), "a worker cannot change what others run");
    }

    #[test]
    fn what_is_no_package_is_refused() {
        for (size, length) in [(0, 0), (4, 0), (100, u64::MAX), (100, 93), (100, 1 << 20)] {
            let memory = Memory::create("test", size).unwrap();
            let length = u64::to_le_bytes(length);
            memory.write(&length[..size.min(8)], 0).unwrap();
            assert!(open(&memory).is_err(), "{size}");
        }
    }

    proptest! {
        #[test]
        fn no_byte_changed_makes_it_panic(at in 0_usize..200, byte in any::<u8>()) {
            let whole = package();
            let mut bytes = whole.memory().read(0, whole.memory().size()).unwrap();
            bytes[at] = byte;
            let memory = Memory::create("test", bytes.len()).unwrap();
            memory.write(&bytes, 0).unwrap();
            let _any = open(&memory);
        }
    }
}
