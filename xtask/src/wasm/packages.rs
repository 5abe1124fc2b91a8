//! Owns which Debian packages a Rust compiler for wasm is made of. What it takes to fetch them is apt's.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use crate::apt::Apt;
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
    let apt = Apt::knowing(&WANTED, folder)?;
    apt.unpack(&needed(&apt)?, folder, root)
}

/// The wanted packages, the compiler's own libraries, and whatever else this machine lacks for it.
fn needed(apt: &Apt) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut open: Vec<String> = WANTED.map(str::to_owned).into();
    while let Some(name) = open.pop() {
        let lines = process::quiet(apt.command("apt-cache").args(["depends", "--important", &name]))?;
        open.extend(followed(&lines).into_iter().filter(|found| !names.contains(found)));
        names.insert(name);
    }
    // A simulated installation names what is missing; where it is refused, the list above must do.
    let options = ["--simulate", "--no-install-recommends", "install"];
    let plan = process::quiet(apt.command("apt-get").args(options).args(WANTED)).unwrap_or_default();
    names.extend(missing(&plan));
    Ok(names)
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
    use super::{followed, missing};

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
}
