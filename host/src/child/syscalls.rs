//! Which system calls a child is refused.
//!
//! Owns the two filters of Linux (seccomp): from the start there is no network, no other program, no other
//! process and no change to any file or limit; later, no file at all. Threads can be started throughout,
//! since ONNX Runtime does. What is refused gets an error, so that a library which only tries goes on.

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) use filter::{refuse_files, refuse_the_world};

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(super) use without::{refuse_files, refuse_the_world};

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod without {
    const REASON: &str = "there is a filter for Linux on x86-64 and AArch64 alone";

    pub(in super::super) fn refuse_the_world() -> Result<(), String> {
        Err(REASON.to_owned())
    }

    pub(in super::super) fn refuse_files() -> Result<(), String> {
        Err(REASON.to_owned())
    }
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod filter {
    use std::collections::BTreeMap;

    use libc::c_long;
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Compare,
        SeccompCondition as Condition, SeccompFilter, SeccompRule, apply_filter_all_threads,
    };

    type Rules = BTreeMap<i64, Vec<SeccompRule>>;

    /// Network, and what could stand in for it.
    const NETWORK: [c_long; 12] = [
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_sendmmsg,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
    ];

    /// Other programs, other processes, more rights.
    const PROCESSES: [c_long; 26] = [
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_send_signal,
        libc::SYS_pidfd_getfd,
        libc::SYS_setrlimit,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_init_module,
    ];

    /// Changes to files and their names.
    const CHANGES: [c_long; 15] = [
        libc::SYS_unlinkat,
        libc::SYS_renameat2,
        libc::SYS_linkat,
        libc::SYS_symlinkat,
        libc::SYS_mkdirat,
        libc::SYS_mknodat,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        libc::SYS_fchown,
        libc::SYS_fchownat,
        libc::SYS_truncate,
        libc::SYS_setxattr,
        libc::SYS_lsetxattr,
        libc::SYS_fsetxattr,
        libc::SYS_open_by_handle_at,
    ];

    /// The same under the names that AArch64 never had.
    #[cfg(target_arch = "x86_64")]
    const OLD: [c_long; 14] = [
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_unlink,
        libc::SYS_rmdir,
        libc::SYS_rename,
        libc::SYS_renameat,
        libc::SYS_link,
        libc::SYS_symlink,
        libc::SYS_mkdir,
        libc::SYS_mknod,
        libc::SYS_chmod,
        libc::SYS_chown,
        libc::SYS_lchown,
        libc::SYS_creat,
    ];
    #[cfg(target_arch = "aarch64")]
    const OLD: [c_long; 1] = [libc::SYS_renameat];

    #[cfg(target_arch = "x86_64")]
    const OPEN: [c_long; 3] = [libc::SYS_open, libc::SYS_openat, libc::SYS_openat2];
    #[cfg(target_arch = "aarch64")]
    const OPEN: [c_long; 2] = [libc::SYS_openat, libc::SYS_openat2];

    #[cfg(target_arch = "x86_64")]
    const MACHINE: seccompiler::TargetArch = seccompiler::TargetArch::x86_64;
    #[cfg(target_arch = "aarch64")]
    const MACHINE: seccompiler::TargetArch = seccompiler::TargetArch::aarch64;

    /// A second set of numbers for the same calls, where the kernel has it.
    #[cfg(target_arch = "x86_64")]
    const OTHER_NUMBERS: Option<c_long> = Some(0x4000_0000);
    #[cfg(target_arch = "aarch64")]
    const OTHER_NUMBERS: Option<c_long> = None;

    /// Network, programs, processes and changes, for all threads to come.
    ///
    /// # Errors
    /// The kernel has no filters.
    pub(in super::super) fn refuse_the_world() -> Result<(), String> {
        let mut rules = Rules::new();
        for call in [NETWORK.as_slice(), &PROCESSES, &CHANGES, &OLD].concat() {
            add(&mut rules, call, Vec::new());
        }
        let threads = u64::try_from(libc::CLONE_THREAD).unwrap_or_default();
        add(&mut rules, libc::SYS_clone, vec![rule(0, Width::Dword, Compare::MaskedEq(threads), 0)?]);
        // abort() signals its own process.
        let own = u64::from(std::process::id());
        add(&mut rules, libc::SYS_tgkill, vec![rule(0, Width::Dword, Compare::Ne, own)?]);
        // Reading a limit is harmless.
        add(&mut rules, libc::SYS_prlimit64, vec![rule(2, Width::Qword, Compare::Ne, 0)?]);
        let signal = u64::try_from(libc::PR_SET_PDEATHSIG).unwrap_or_default();
        add(&mut rules, libc::SYS_prctl, vec![rule(0, Width::Dword, Compare::Eq, signal)?]);
        // Its flags lie in memory, where a filter does not look; who is told that it does not exist uses clone.
        let mut unknown = Rules::new();
        add(&mut unknown, libc::SYS_clone3, Vec::new());
        apply(unknown, libc::ENOSYS)?;
        apply(rules, libc::EPERM)
    }

    /// Opening of files, for all threads.
    ///
    /// # Errors
    /// The kernel has no filters.
    pub(in super::super) fn refuse_files() -> Result<(), String> {
        let mut rules = Rules::new();
        for call in OPEN {
            add(&mut rules, call, Vec::new());
        }
        apply(rules, libc::EACCES)
    }

    /// No rules mean that the call is refused whatever its arguments.
    fn add(rules: &mut Rules, call: c_long, conditions: Vec<SeccompRule>) {
        if let Some(other) = OTHER_NUMBERS {
            rules.insert(call | other, conditions.clone());
        }
        rules.insert(call, conditions);
    }

    fn rule(argument: u8, width: Width, compare: Compare, value: u64) -> Result<SeccompRule, String> {
        let condition = Condition::new(argument, width, compare, value).map_err(|error| error.to_string())?;
        SeccompRule::new(vec![condition]).map_err(|error| error.to_string())
    }

    fn apply(rules: Rules, error: i32) -> Result<(), String> {
        let refuse = SeccompAction::Errno(error.unsigned_abs());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, MACHINE);
        let program = filter.and_then(BpfProgram::try_from).map_err(|error| error.to_string())?;
        apply_filter_all_threads(&program).map_err(|error| error.to_string())
    }
}
