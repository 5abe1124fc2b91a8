//! Owns which Debian packages something is made of, and how it runs where it was unpacked. What it takes to fetch
//! them is apt's.
//!
//! What was unpacked is run by a script beside it, with the libraries that came along.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::apt::Apt;
use crate::process;

/// What is to be unpacked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// What it is, in words.
    pub(crate) name: &'static str,
    /// The packages themselves.
    pub(crate) packages: &'static [&'static str],
    /// How the names of those dependencies begin that come along whether or not this machine has them.
    pub(crate) followed: &'static [&'static str],
}

/// Never unpacked beside the system's own: the C library, the C compiler and the linker.
const LEFT_OUT: [&str; 6] = ["libc6", "libc-", "gcc", "cpp", "binutils", "linux-libc"];

/// Downloads what is wanted, and what it needs, into `folder` and unpacks it under `root`.
///
/// # Errors
/// This is no Debian; apt knows no such packages or cannot fetch them.
pub(crate) fn unpack(wanted: Wanted, folder: &Path, root: &Path) -> Result<()> {
    let apt = Apt::knowing(wanted.packages, folder)?;
    let unpacked = apt.unpack(&needed(&apt, wanted)?, folder, root);
    unpacked.with_context(|| format!("cannot fetch {}", wanted.name))
}

/// Writes a script that runs a program of what was unpacked under `folder/root`, wherever the folder is, with the
/// libraries beside it.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write_wrapper(folder: &Path, program: &str) -> Result<PathBuf> {
    let text = format!(
        "\
#!/bin/sh
here=$(cd \"$(dirname \"$0\")\" && pwd)
for folder in \"$here\"/root/usr/lib/*-linux-gnu; do
  LD_LIBRARY_PATH=$folder${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}
done
export LD_LIBRARY_PATH
exec \"$here/root/usr/bin/{program}\" \"$@\"
"
    );
    let path = folder.join(program);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Puts what was made in place of what may be there.
///
/// # Errors
/// The folder cannot be replaced.
pub(crate) fn install(made: &Path, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    let parent = folder.parent().unwrap_or(folder);
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    fs::rename(made, folder).with_context(|| format!("cannot write {}", folder.display()))
}

/// The wanted packages, the libraries that come along, and whatever else this machine lacks for them.
fn needed(apt: &Apt, wanted: Wanted) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut open: Vec<String> = wanted.packages.iter().map(|name| (*name).to_owned()).collect();
    while let Some(name) = open.pop() {
        let lines = process::quiet(apt.command("apt-cache").args(["depends", "--important", &name]))?;
        let found = followed(&lines, wanted.followed);
        open.extend(found.into_iter().filter(|found| !names.contains(found)));
        names.insert(name);
    }
    // A simulated installation names what is missing; where it is refused, the list above must do.
    let options = ["--simulate", "--no-install-recommends", "install"];
    let mut simulation = apt.command("apt-get");
    let plan = process::quiet(simulation.args(options).args(wanted.packages)).unwrap_or_default();
    names.extend(missing(&plan));
    Ok(names)
}

/// From `apt-cache depends`, the dependencies to follow.
fn followed(lines: &str, starts: &[&str]) -> Vec<String> {
    let names = lines.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.filter(|name| starts.iter().any(|start| name.starts_with(start))).map(str::to_owned).collect()
}

/// From `apt-get --simulate install`, the packages that would be installed.
fn missing(plan: &str) -> Vec<String> {
    let names = plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next());
    names.filter(|name| !LEFT_OUT.iter().any(|start| name.starts_with(start))).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{followed, missing};

    #[test]
    fn only_what_is_named_is_followed() {
        let lines = "rustc-web\n  Depends: libc6\n  Depends: libstd-rust-web-dev\n |Depends: gcc\n  Depends: libllvm22\n";
        assert_eq!(followed(lines, &["libstd-rust", "libllvm"]), ["libstd-rust-web-dev", "libllvm22"]);
    }

    #[test]
    fn the_plan_names_what_is_missing_but_never_the_c_library() {
        let plan = "Reading package lists...\nInst libllvm22 (1:22 Debian [amd64])\nInst libc6 [2.35] (2.36)\n\
                    Inst gcc-12 (12)\nInst libedit2 (3)\nConf libllvm22 (1:22)\n";
        assert_eq!(missing(plan), ["libllvm22", "libedit2"]);
    }
}
