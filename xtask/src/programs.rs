//! Owns two compiled client programs, unpacked into the cache and run from there with libraries beside them: `h2load`
//! of Debian's package nghttp2-client, and `perf_analyzer` out of its wheel, which wants a newer C library than many
//! systems have. Nothing is installed, no root is needed. Kept under a digest of what they are made of, whole or
//! not at all.

use std::env::consts::ARCH;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::apt::Apt;
use crate::paths::Paths;
use crate::{fetch, process, progress, python};

/// Its dependencies are all that `perf_analyzer` needs, too.
const PACKAGE: &str = "nghttp2-client";
/// The C library that `perf_analyzer` is built for.
const MINIMUM: (u32, u32) = (2, 38);
/// The release of Debian to take the libraries of where the system's own are older.
const RELEASE: &str = "trixie";
/// Runs a program of the folder, wherever that is, by the loader and the libraries beside it.
const WRAPPER: &str = "\
#!/bin/sh
here=$(cd \"$(dirname \"$0\")\" && pwd)
for loader in \"$here\"/root/usr/lib/*-linux-gnu/ld-linux-*.so.*; do
  exec \"$loader\" --library-path \"$(dirname \"$loader\")\" \"$here/PROGRAM\" \"$@\"
done
";
const PROGRAMS: [(&str, &str); 2] =
    [("h2load", "root/usr/bin/h2load"), ("perf_analyzer", "python/perf_analyzer/bin/perf_analyzer")];

/// The program `name`, fetched with the others if it is not there.
///
/// # Errors
/// This is no Debian, packages cannot be had, or the program does not run.
pub(crate) fn ensure(paths: &Paths, name: &str) -> Result<PathBuf> {
    let list = paths.root.join("tests/python/perf_analyzer.txt");
    let wheels = fs::read(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let own = c_library().context("this system's C library is not GNU's")?;
    let release = if own < MINIMUM { RELEASE } else { "" };
    let key = fetch::short_digest(&[&wheels, release.as_bytes(), WRAPPER.as_bytes(), ARCH.as_bytes()]);
    let folder = paths.cache.join(format!("programs-{key}"));
    let _lock = paths.lock("programs")?;
    if !folder.exists() {
        progress::step("fetch h2load and perf_analyzer (26 MB)", || {
            let scratch = paths.scratch("programs")?;
            make(scratch.path(), release, &list)?;
            fs::rename(scratch.path(), &folder).with_context(|| format!("cannot write {}", folder.display()))
        })?;
    }
    let program = folder.join(name);
    process::quiet(Command::new(&program).arg("--version"))
        .with_context(|| format!("{name} does not run"))?;
    Ok(program)
}

/// `release`: of Debian, or empty for the system's own.
fn make(folder: &Path, release: &str, wheels: &Path) -> Result<()> {
    let packages = folder.join("packages");
    fs::create_dir_all(&packages).with_context(|| format!("cannot create {}", packages.display()))?;
    let apt = match release {
        "" => Apt::knowing(&[PACKAGE], &packages)?,
        release => Apt::of_release(release, &[PACKAGE], &packages)?,
    };
    apt.unpack(&apt.with_dependencies(PACKAGE)?, &packages, &folder.join("root"))?;
    fs::remove_dir_all(&packages).with_context(|| format!("cannot remove {}", packages.display()))?;
    python::require_pip()?;
    let platform = format!("manylinux_{}_{}_{ARCH}", MINIMUM.0, MINIMUM.1);
    let mut pip = python::pip(Path::new(python::SYSTEM));
    pip.args(["install", "--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:", "--platform"]);
    pip.arg(platform).arg("--target").arg(folder.join("python")).arg("-r").arg(wheels);
    process::quiet(&mut pip).with_context(|| format!("pip cannot fetch {}", wheels.display()))?;
    for (name, program) in PROGRAMS {
        let path = folder.join(name);
        fs::write(&path, WRAPPER.replace("PROGRAM", program))
            .with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// The version of the system's C library, if it is GNU's.
fn c_library() -> Option<(u32, u32)> {
    version_of(&process::quiet(Command::new("getconf").arg("GNU_LIBC_VERSION")).ok()?)
}

fn version_of(line: &str) -> Option<(u32, u32)> {
    let (major, minor) = line.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{MINIMUM, version_of};

    #[test]
    fn versions_of_the_c_library_are_compared_as_numbers() {
        assert!(version_of("glibc 2.36\n").unwrap() < MINIMUM);
        assert!(version_of("glibc 2.100").unwrap() > MINIMUM);
        assert_eq!(version_of("glibc 2.38.1"), Some(MINIMUM));
        assert_eq!(version_of("musl 1.2"), None);
        assert_eq!(version_of(""), None);
    }
}
