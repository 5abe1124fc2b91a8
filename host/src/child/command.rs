//! How a child is started: as this very program, in an empty surrounding.
//!
//! Owns what a child gets of the host. What it is to do, its caller says.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a child gets of the host's environment: where the system's loader looks.
const VARIABLES: [&str; 2] = ["LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"];

/// A command that starts this program with a subcommand.
///
/// # Errors
/// The program does not know where its file is.
pub(crate) fn command(subcommand: &str) -> std::io::Result<Command> {
    let mut command = Command::new(program()?);
    command.arg0("nuke").arg(subcommand).env_clear().current_dir("/").process_group(0);
    for name in VARIABLES {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    Ok(command)
}

/// This very program, whatever lies at its path by now.
pub(crate) fn program() -> std::io::Result<PathBuf> {
    let own = Path::new("/proc/self/exe");
    if own.exists() { Ok(own.to_owned()) } else { std::env::current_exe() }
}
