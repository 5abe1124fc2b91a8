//! The rights that a child takes away from itself, before it reads a byte.
//!
//! Owns the limits and their order. It never gives anything back.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, nice, setrlimit};

use super::syscalls;

/// Open files: the library, pipes, what threads need.
const FILES: u64 = 128;
/// Steps of politeness: requests of the versions that serve go first.
const NICE: i32 = 5;

/// How much a child may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of private memory that can be written to. (Address space is not limited: plugins reserve far
    /// more of it than they use.)
    pub(super) memory: u64,
    /// Seconds of all cores together.
    pub(super) cpu: u64,
    /// Whose child this is: without that process there is nobody to validate for.
    pub(super) parent: u32,
}

/// Takes rights away. What could not be taken away is returned: validation goes on without.
///
/// # Errors
/// A limit cannot be set, or the parent is gone.
pub(super) fn confine(limits: Limits) -> Result<Vec<String>, String> {
    for (resource, limit) in [
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Data, limits.memory),
        (Resource::Cpu, limits.cpu),
        (Resource::Nofile, FILES),
    ] {
        lower(resource, limit)
            .map_err(|error| format!("the limit on {resource:?} cannot be set: {error}"))?;
    }
    let mut not_done = Vec::new();
    if let Err(error) = nice(NICE) {
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
pub(super) fn close_files() -> Result<(), String> {
    syscalls::refuse_files()
}

/// A limit that is lower already stays.
fn lower(resource: Resource, limit: u64) -> Result<(), rustix::io::Errno> {
    let maximum = getrlimit(resource).maximum.map_or(limit, |there| there.min(limit));
    setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) })
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
