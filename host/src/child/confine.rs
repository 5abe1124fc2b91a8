//! The rights that a child takes away from itself, before it reads a byte.
//!
//! Owns the limits and their order. It never gives anything back.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, nice, setrlimit};

use super::syscalls;

/// Open files: the library, pipes, what threads need.
const FILES: u64 = 128;

/// How much a child may use. `None` leaves a limit as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// Bytes of private memory that can be written to. (Address space is not limited: plugins reserve far
    /// more of it than they use, and what is shared with the host is the host's.)
    pub(crate) memory: Option<u64>,
    /// Seconds of all cores together.
    pub(crate) cpu: Option<u64>,
    /// Bytes of any file that it writes to; memory that is shared as a file counts as one.
    pub(crate) file: Option<u64>,
    /// Steps of politeness towards those who serve.
    pub(crate) nice: i32,
    /// Whose child this is: without that process there is nobody to work for.
    pub(crate) parent: u32,
}

/// Takes rights away. What could not be taken away is returned: the child goes on without.
///
/// # Errors
/// A limit cannot be set, or the parent is gone.
pub(crate) fn confine(limits: Limits) -> Result<Vec<String>, String> {
    for (resource, limit) in [
        (Resource::Core, Some(0)),
        (Resource::Fsize, limits.file),
        (Resource::Data, limits.memory),
        (Resource::Cpu, limits.cpu),
        (Resource::Nofile, Some(FILES)),
    ] {
        let Some(limit) = limit else {
            continue;
        };
        lower(resource, limit)
            .map_err(|error| format!("the limit on {resource:?} cannot be set: {error}"))?;
    }
    let mut not_done = Vec::new();
    if let (1.., Err(error)) = (limits.nice, nice(limits.nice)) {
        not_done.push(format!("its priority stays as it is: {error}"));
    }
    end_with_parent(limits.parent)?;
    if let Err(error) = syscalls::refuse_the_world() {
        not_done.push(format!("system calls are not filtered: {error}"));
    }
    Ok(not_done)
}

/// From here on, no file can be opened. To be called once the library is loaded, by a process that may have
/// threads.
pub(crate) fn close_files() -> Result<(), String> {
    syscalls::refuse_files()
}

/// A limit that is lower already stays. Between the soft and the hard limit of processor time lies the signal
/// that says so.
fn lower(resource: Resource, limit: u64) -> Result<(), rustix::io::Errno> {
    let grace = if resource == Resource::Cpu { 2 } else { 0 };
    let there = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let (current, maximum) = (limit.min(there), limit.saturating_add(grace).min(there));
    setrlimit(resource, Rlimit { current: Some(current), maximum: Some(maximum) })
}

#[cfg(target_os = "linux")]
fn end_with_parent(parent: u32) -> Result<(), String> {
    let signal = Some(rustix::process::Signal::KILL);
    rustix::process::set_parent_process_death_signal(signal)
        .map_err(|error| format!("the child's end with its parent cannot be set: {error}"))?;
    refuse_orphans(parent)
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent(parent: u32) -> Result<(), String> {
    refuse_orphans(parent)
}

fn refuse_orphans(parent: u32) -> Result<(), String> {
    let is_there = rustix::process::getppid()
        .is_some_and(|there| u32::try_from(Pid::as_raw(Some(there))).is_ok_and(|there| there == parent));
    if is_there { Ok(()) } else { Err("the host that asked is gone".to_owned()) }
}

#[cfg(all(test, target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use super::*;

    /// Set for the process that takes its rights away: the tests' own must keep theirs.
    const CONFINED: &str = "NUKE_TEST_CONFINED";

    fn refused<T>(what: &str, result: std::io::Result<T>, expected: i32) {
        let error = result.err().and_then(|error| error.raw_os_error());
        assert_eq!(error, Some(expected), "{what}");
    }

    #[test]
    fn what_a_confined_process_may_still_do() {
        let folder = tempfile::tempdir().unwrap();
        let (file, listener) = (folder.path().join("file"), TcpListener::bind("127.0.0.1:0").unwrap());
        std::fs::write(&file, "x").unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let address = listener.local_addr().unwrap().to_string();
        command
            .args(["--exact", "--nocapture", "--test-threads=1"])
            .env(CONFINED, format!("{address} {}", file.display()));
        command.arg(format!("{}::in_a_confined_process", module_path!().split_once("::").unwrap().1));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        assert_eq!(std::fs::read_to_string(file).unwrap(), "x");
    }

    #[test]
    fn in_a_confined_process() {
        let Ok(given) = std::env::var(CONFINED) else {
            return;
        };
        let (address, file) = given.split_once(' ').unwrap();
        let open = std::fs::File::options().append(true).open(file).unwrap();
        let parent = std::os::unix::process::parent_id();
        let limits = Limits { memory: Some(1 << 30), cpu: Some(60), file: Some(0), nice: 5, parent };
        assert!(confine(Limits { parent: 1 << 22, ..limits }).is_err());
        assert_eq!(confine(limits).unwrap(), [""; 0]);

        refused("connecting", TcpStream::connect(address), libc::EPERM);
        refused("listening", TcpListener::bind("127.0.0.1:0"), libc::EPERM);
        refused("a socket of the file system", std::os::unix::net::UnixDatagram::unbound(), libc::EPERM);
        refused("another program", Command::new("true").spawn().map(|_| ()), libc::EPERM);
        refused("removing", std::fs::remove_file(file), libc::EPERM);
        refused("making a folder", std::fs::create_dir(format!("{file}.d")), libc::EPERM);
        let parent = Pid::from_raw(i32::try_from(parent).unwrap()).unwrap();
        let signal = rustix::process::Signal::KILL;
        refused("signalling", rustix::process::kill_process(parent, signal).map_err(Into::into), libc::EPERM);
        let limit = Rlimit { current: Some(1), maximum: Some(1) };
        refused("a limit", setrlimit(Resource::Nofile, limit).map_err(Into::into), libc::EPERM);
        assert_eq!(getrlimit(Resource::Data).maximum, Some(1 << 30));
        assert_eq!(getrlimit(Resource::Fsize).maximum, Some(0));
        assert!(Vec::<u8>::new().try_reserve_exact(2 << 30).is_err());
        // Files can be opened until they are closed, for threads that were there before, too.
        assert!(std::fs::read(file).is_ok());
        let (go, told) = std::sync::mpsc::channel::<()>();
        let path = file.to_owned();
        let before = std::thread::spawn(move || told.recv().map(|()| std::fs::read(path)));
        close_files().unwrap();
        go.send(()).unwrap();
        refused("opening, in an older thread", before.join().unwrap().unwrap(), libc::EACCES);
        refused("opening", std::fs::read(file), libc::EACCES);
        let after = std::thread::spawn(|| 7).join().unwrap();
        assert_eq!(after, 7);
        drop(open);
    }
}
