//! Owns finding, downloading and unpacking Debian packages as any user: apt checks the signatures, dpkg
//! unpacks into a folder. It never installs and never writes outside that folder.
//!
//! What was unpacked is run by a script beside it, with the libraries that came along.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

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
    for program in ["apt-get", "apt-cache", "dpkg"] {
        process::on_path(program).with_context(|| format!("there is no {program}: this is no Debian"))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let apt = Apt::with_lists(wanted, folder)?;
    let names = apt.needed()?;
    process::quiet(apt.command("apt-get").current_dir(folder).arg("download").args(&names))
        .with_context(|| format!("apt-get cannot download {}", wanted.name))?;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?.flatten()
    {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            process::quiet(Command::new("dpkg").arg("-x").arg(&path).arg(root))?;
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
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

/// apt with the options that its lists need.
struct Apt {
    wanted: Wanted,
    options: Vec<String>,
}

impl Apt {
    /// The system's package lists if they know what is wanted, else lists of our own, fetched now.
    fn with_lists(wanted: Wanted, folder: &Path) -> Result<Self> {
        let system = Self { wanted, options: Vec::new() };
        if system.knows_all() {
            return Ok(system);
        }
        let state = folder.join("apt");
        let mut options = Vec::new();
        for (key, name) in [("Dir::State::Lists", "lists"), ("Dir::Cache", "cache")] {
            let path = state.join(name);
            fs::create_dir_all(path.join("partial"))
                .with_context(|| format!("cannot create {}", path.display()))?;
            options.push(format!("-o{key}={}", path.display()));
        }
        let own = Self { wanted, options };
        // Its status alone says little: a container's clean-up hook fails where we are not root.
        let update = process::quiet(own.command("apt-get").arg("update"));
        if own.knows_all() {
            return Ok(own);
        }
        update.context("apt-get cannot fetch the package lists")?;
        bail!("apt knows no package {}", wanted.packages.join(" and "))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).env("LC_ALL", "C.UTF-8");
        command
    }

    fn knows_all(&self) -> bool {
        self.wanted.packages.iter().all(|name| self.candidate(name))
    }

    fn candidate(&self, name: &str) -> bool {
        let policy = process::quiet(self.command("apt-cache").args(["policy", name])).unwrap_or_default();
        has_candidate(&policy)
    }

    /// The wanted packages, the libraries that come along, and whatever else this machine lacks for them.
    fn needed(&self) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        let mut open: Vec<String> = self.wanted.packages.iter().map(|name| (*name).to_owned()).collect();
        while let Some(name) = open.pop() {
            let lines = process::quiet(self.command("apt-cache").args(["depends", "--important", &name]))?;
            let found = followed(&lines, self.wanted.followed);
            open.extend(found.into_iter().filter(|found| !names.contains(found)));
            names.insert(name);
        }
        // A simulated installation names what is missing; where it is refused, the list above must do.
        let options = ["--simulate", "--no-install-recommends", "install"];
        let mut simulation = self.command("apt-get");
        let plan = process::quiet(simulation.args(options).args(self.wanted.packages)).unwrap_or_default();
        names.extend(missing(&plan));
        Ok(names)
    }
}

fn has_candidate(policy: &str) -> bool {
    let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
    candidate.is_some_and(|version| version != "(none)")
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
    use super::{followed, has_candidate, missing};

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

    #[test]
    fn a_package_without_a_candidate_is_unknown() {
        assert!(has_candidate("rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0\n"));
        assert!(!has_candidate("rustc-web:\n  Installed: (none)\n  Candidate: (none)\n"));
        assert!(!has_candidate(""));
    }
}
