//! Memory that two processes share: sealed, so that nobody can take it away from the other.
//!
//! Owns making it, checking what another process hands over, and the one mapping. The host never maps any: it
//! writes and reads with system calls, which copy, so that nothing it looks at can change under its eyes. (That
//! takes 63 microseconds instead of 19 for the 600 kB of a picture, and half a microsecond for what is small.)

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
/// See the module.
#[derive(Debug)]
pub(super) struct Memory {
    file: File,
    size: usize,
}

impl Memory {
    /// So many bytes, all zero. Nobody can change their number any more.
    ///
    /// # Errors
    /// The system has no such memory.
    pub(super) fn create(name: &str, size: usize) -> io::Result<Self> {
        Ok(Self { file: system::create(name, size as u64)?, size })
    }

    /// Nobody can write to it any more, nor seal anything else.
    ///
    /// # Errors
    /// Somebody has mapped it for writing.
    pub(super) fn seal(&self) -> io::Result<()> {
        system::seal_against_writing(&self.file)
    }

    /// Nobody can seal anything else: it stays one that can be written to.
    ///
    /// # Errors
    /// It is sealed already.
    pub(super) fn fix(&self) -> io::Result<()> {
        system::seal_as_it_is(&self.file)
    }

    /// Memory that another process has handed over.
    ///
    /// # Errors
    /// It can shrink, or does not have the size that was told.
    pub(super) fn received(handle: OwnedFd, size: u64) -> Result<Self, String> {
        let file = File::from(handle);
        let is_fixed =
            system::is_fixed(&file).map_err(|error| format!("what came is no shared memory: {error}"))?;
        let there = file.metadata().map_err(|error| error.to_string())?.len();
        if !is_fixed || there != size {
            return Err(format!(
                "the shared memory has {there} bytes and may change its size: {}; expected {size} bytes that cannot \
                 change",
                !is_fixed
            ));
        }
        let size = usize::try_from(size).map_err(|_| "it does not fit into memory".to_owned())?;
        Ok(Self { file, size })
    }

    /// How many bytes there are.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// They reach beyond the end, or the system has no memory left.
    pub(super) fn write(&self, bytes: &[u8], offset: usize) -> io::Result<()> {
        self.file.write_all_at(bytes, offset as u64)
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// They reach beyond the end.
    pub(super) fn read(&self, offset: usize, length: usize) -> io::Result<Vec<u8>> {
        let within = offset.checked_add(length).is_some_and(|end| end <= self.size);
        if !within {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the end of the shared memory"));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset as u64)?;
        Ok(bytes)
    }

    /// The bytes where they lie. For a worker only, whose host writes to them only while it runs nothing.
    ///
    /// # Errors
    /// The system has no address space left.
    #[allow(unsafe_code, reason = "a mapping is how two processes share memory")]
    pub(super) fn map(&self) -> io::Result<Bytes> {
        if self.size == 0 {
            return Ok(Bytes::new());
        }
        // SAFETY: the memory cannot shrink: it was sealed when it was made, or that was checked when it came,
        // so that no access can miss it. Its bytes do not change while anybody looks at them: a package is
        // sealed against writing, and of an arena the host, which is the only other one to have it, writes
        // between runs only, while this process writes between runs only by itself, and both tell each other.
        // A host that broke that would give its own worker wrong numbers: no type here has invalid values.
        let mapping = unsafe { memmap2::Mmap::map(&self.file) }?;
        Ok(Bytes::from_owner(mapping))
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// What the system does for it.
#[cfg(target_os = "linux")]
mod system {
    use std::fs::File;
    use std::io;

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create};

    const FIXED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

    pub(super) fn create(name: &str, size: u64) -> io::Result<File> {
        let file = File::from(memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        ftruncate(&file, size)?;
        fcntl_add_seals(&file, FIXED)?;
        Ok(file)
    }

    pub(super) fn seal_against_writing(file: &File) -> io::Result<()> {
        fcntl_add_seals(file, SealFlags::WRITE | SealFlags::SEAL).map_err(Into::into)
    }

    pub(super) fn seal_as_it_is(file: &File) -> io::Result<()> {
        fcntl_add_seals(file, SealFlags::SEAL).map_err(Into::into)
    }

    pub(super) fn is_fixed(file: &File) -> io::Result<bool> {
        Ok(fcntl_get_seals(file)?.contains(FIXED))
    }
}

/// Elsewhere there is none: the configuration has refused `isolation: process` already.
#[cfg(not(target_os = "linux"))]
mod system {
    use std::fs::File;
    use std::io;

    fn none<T>() -> io::Result<T> {
        let reason = "shared memory that can be sealed is Linux's alone: use workers.isolation: thread";
        Err(io::Error::new(io::ErrorKind::Unsupported, reason))
    }

    pub(super) fn create(_: &str, _: u64) -> io::Result<File> {
        none()
    }

    pub(super) fn seal_against_writing(_: &File) -> io::Result<()> {
        none()
    }

    pub(super) fn seal_as_it_is(_: &File) -> io::Result<()> {
        none()
    }

    pub(super) fn is_fixed(_: &File) -> io::Result<bool> {
        none()
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

    use super::*;

    fn handed_over(memory: &Memory, size: u64) -> Result<Memory, String> {
        Memory::received(memory.as_fd().try_clone_to_owned().unwrap(), size)
    }

    #[test]
    fn what_one_side_writes_the_other_sees() {
        let memory = Memory::create("test", 100).unwrap();
        let other = handed_over(&memory, 100).unwrap();
        let mapped = other.map().unwrap();
        memory.write(b"hello", 95).unwrap();
        assert_eq!((&mapped[95..], other.read(95, 5).unwrap().as_slice()), (&b"hello"[..], &b"hello"[..]));
        assert!(memory.write(b"x", 100).is_err());
        for (offset, length) in [(95, 6), (usize::MAX, 2), (101, 0)] {
            assert!(memory.read(offset, length).is_err(), "{offset} {length}");
        }
    }

    #[test]
    fn nobody_can_take_it_away_or_write_to_what_is_sealed() {
        let memory = Memory::create("test", 100).unwrap();
        assert!(ftruncate(&memory, 10).is_err() && ftruncate(&memory, 1000).is_err());
        let open = Memory::create("test", 100).unwrap();
        open.fix().unwrap();
        assert!(open.seal().is_err() && open.write(b"x", 0).is_ok());
        memory.seal().unwrap();
        assert!(memory.write(b"x", 0).is_err() && memory.read(0, 1).is_ok());
        assert!(fcntl_add_seals(&memory, SealFlags::FUTURE_WRITE).is_err());
    }

    #[test]
    fn memory_that_could_shrink_or_is_none_is_refused() {
        let loose = memfd_create("loose", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&loose, 100).unwrap();
        assert!(Memory::received(loose, 100).unwrap_err().contains("cannot change"));
        let memory = Memory::create("test", 100).unwrap();
        assert!(handed_over(&memory, 99).unwrap_err().contains("100 bytes"));
        let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert!(Memory::received(socket.into(), 0).unwrap_err().contains("no shared memory"));
    }
}
