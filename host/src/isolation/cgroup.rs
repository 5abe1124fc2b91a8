//! A worker's memory limit by a cgroup of its own, where the host may make one.
//!
//! Owns the files of cgroup v2. The host has to be in a group of its own below one that is delegated to it (with
//! systemd: `Delegate=yes` and `DelegateSubgroup=host`): workers get groups beside it. Whatever is missing is a
//! reason, and the caller falls back to a limit of the process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Where the one hierarchy of version 2 is mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// A group that holds one worker, and goes with it.
#[derive(Debug)]
pub(super) struct Cgroup(PathBuf);

impl Cgroup {
    /// A group that may use so many bytes of memory, for a process that is about to be started.
    ///
    /// # Errors
    /// Why the host may make none.
    pub(super) fn create(memory: u64) -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        Self::create_beside(Path::new(MOUNT), &own, memory)
    }

    fn create_beside(mount: &Path, own: &str, memory: u64) -> Result<Self, String> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);

        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("there is no cgroup v2")?;
        let own = Path::new(own);
        let parent = own.parent().ok_or("the host is in the root cgroup")?;
        let parent = mount.join(parent);
        let failed = |what: &str, error: std::io::Error| format!("{}: {what}: {error}", parent.display());
        let read = |name: &str| fs::read_to_string(parent.join(name)).map_err(|error| failed(name, error));
        let has_memory = |text: &str| text.split_whitespace().any(|word| word == "memory");
        if !has_memory(&read("cgroup.controllers")?) {
            return Err(format!("{} has no memory controller", parent.display()));
        }
        if !has_memory(&read("cgroup.subtree_control")?) {
            fs::write(parent.join("cgroup.subtree_control"), "+memory")
                .map_err(|error| failed("cgroup.subtree_control", error))?;
        }
        let name = format!("nuke-worker-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let folder = parent.join(name);
        fs::create_dir(&folder).map_err(|error| failed("a group for the worker", error))?;
        let group = Self(folder);
        group.write("memory.max", &memory.to_string())?;
        // Without, a worker over its limit would be swapped out instead of being ended. Not every kernel counts it.
        let _uncounted = group.write("memory.swap.max", "0");
        Ok(group)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.0.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Puts a process into it.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn take_in(&self, process: u32) -> Result<(), String> {
        self.write("cgroup.procs", &process.to_string())
    }

    /// Whether the system has ended a process in it for its memory.
    pub(super) fn ran_out(&self) -> bool {
        let events = fs::read_to_string(self.0.join("memory.events")).unwrap_or_default();
        let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.and_then(|count| count.trim().parse::<u64>().ok()).is_some_and(|count| count > 0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its process has been waited for; a group that stays behind is empty.
        if let Err(error) = fs::remove_dir(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "a worker's cgroup stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delegated(controllers: &str) -> tempfile::TempDir {
        let mount = tempfile::tempdir().unwrap();
        let parent = mount.path().join("nuke.service");
        fs::create_dir_all(parent.join("host")).unwrap();
        fs::write(parent.join("cgroup.controllers"), controllers).unwrap();
        fs::write(parent.join("cgroup.subtree_control"), "").unwrap();
        mount
    }

    #[test]
    fn a_worker_gets_a_group_beside_its_host() {
        let mount = delegated("cpu memory pids\n");
        let group = Cgroup::create_beside(mount.path(), "0::/nuke.service/host\n", 1 << 30).unwrap();
        let parent = mount.path().join("nuke.service");
        assert_eq!(fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap(), "+memory");
        assert_eq!(group.0.parent(), Some(parent.as_path()));
        assert_eq!(fs::read_to_string(group.0.join("memory.max")).unwrap(), "1073741824");
        group.take_in(77).unwrap();
        assert_eq!(fs::read_to_string(group.0.join("cgroup.procs")).unwrap(), "77");
        assert!(!group.ran_out());
        fs::write(group.0.join("memory.events"), "max 3\noom 1\noom_kill 1\n").unwrap();
        assert!(group.ran_out());
    }

    #[test]
    fn what_is_missing_is_named() {
        let mount = delegated("cpu\n");
        let refused = |own: &str| Cgroup::create_beside(mount.path(), own, 1).unwrap_err();
        assert!(refused("0::/nuke.service/host\n").ends_with("nuke.service has no memory controller"));
        assert_eq!(refused("4:memory:/x\n"), "there is no cgroup v2");
        assert_eq!(refused("0::/\n"), "the host is in the root cgroup");
        assert!(refused("0::/other/host\n").contains("cgroup.controllers"));
    }
}
