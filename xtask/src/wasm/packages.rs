//! Owns finding, downloading and unpacking Debian packages as any user: apt checks the signatures, dpkg
//! unpacks into a folder. It never installs and never writes outside that folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// The compiler and the sources of its standard library.
const WANTED: [&str; 2] = ["rustc-web", "rust-web-src"];
/// The dependencies to follow: the compiler's own libraries. The rest any machine with a linker has.
const FOLLOWED: [&str; 2] = ["libstd-rust", "libllvm"];
/// Never unpacked beside the system's own: the C library, the C compiler and the linker.
const LEFT_OUT: [&str; 6] = ["libc6", "libc-", "gcc", "cpp", "binutils", "linux-libc"];

/// Downloads what the compiler needs into `folder` and unpacks it under `root`.
///
/// # Errors
/// apt knows no such packages or cannot fetch them.
pub(crate) fn unpack(folder: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let apt = Apt::with_lists(folder)?;
    let names = apt.needed()?;
    process::quiet(apt.command("apt-get").current_dir(folder).arg("download").args(&names))
        .context("apt-get cannot download the compiler")?;
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

/// apt with the options that its lists need.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// The system's package lists if they know the compiler, else lists of our own, fetched now.
    fn with_lists(folder: &Path) -> Result<Self> {
        let system = Self { options: Vec::new() };
        if system.knows_compiler() {
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
        let own = Self { options };
        // Its status alone says little: a container's clean-up hook fails where we are not root.
        let update = process::quiet(own.command("apt-get").arg("update"));
        if own.knows_compiler() {
            return Ok(own);
        }
        update.context("apt-get cannot fetch the package lists")?;
        bail!("apt knows no package {}", WANTED.join(" and "))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).env("LC_ALL", "C.UTF-8");
        command
    }

    fn knows_compiler(&self) -> bool {
        WANTED.iter().all(|name| self.candidate(name))
    }

    fn candidate(&self, name: &str) -> bool {
        let policy = process::quiet(self.command("apt-cache").args(["policy", name])).unwrap_or_default();
        has_candidate(&policy)
    }

    /// The wanted packages, the compiler's own libraries, and whatever else this machine lacks for it.
    fn needed(&self) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        let mut open: Vec<String> = WANTED.map(str::to_owned).into();
        while let Some(name) = open.pop() {
            let lines = process::quiet(self.command("apt-cache").args(["depends", "--important", &name]))?;
            open.extend(followed(&lines).into_iter().filter(|found| !names.contains(found)));
            names.insert(name);
        }
        // A simulated installation names what is missing; where it is refused, the list above must do.
        let options = ["--simulate", "--no-install-recommends", "install"];
        let plan = process::quiet(self.command("apt-get").args(options).args(WANTED)).unwrap_or_default();
        names.extend(missing(&plan));
        Ok(names)
    }
}

fn has_candidate(policy: &str) -> bool {
    let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
    candidate.is_some_and(|version| version != "(none)")
}

/// From `apt-cache depends`, the dependencies to follow.
fn followed(lines: &str) -> Vec<String> {
    let names = lines.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.filter(|name| FOLLOWED.iter().any(|start| name.starts_with(start))).map(str::to_owned).collect()
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
    fn only_the_compilers_own_libraries_are_followed() {
        let lines = "rustc-web\n  Depends: libc6\n  Depends: libstd-rust-web-dev\n |Depends: gcc\n  Depends: libllvm22\n";
        assert_eq!(followed(lines), ["libstd-rust-web-dev", "libllvm22"]);
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
