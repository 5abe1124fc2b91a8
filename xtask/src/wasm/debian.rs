//! Owns the toolchain out of Debian packages (rustc-web and its sources): downloaded and unpacked into
//! the cache, nothing installed, no root needed. Kept under `wasm-toolchain/VERSION`, whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use semver::Version;

use super::{Toolchain, sysroot};
use crate::packages::Wanted;
use crate::paths::Paths;
use crate::{packages, process, progress};

/// The oldest compiler that the workspace's `rust-version` allows.
const MINIMUM: Version = Version::new(1, 95, 0);
/// The compiler and the sources of its standard library, with its own libraries. The rest any machine with a
/// linker has.
const COMPILER: Wanted = Wanted {
    name: "the compiler",
    packages: &["rustc-web", "rust-web-src"],
    followed: &["libstd-rust", "libllvm"],
};

/// The toolchain in the cache, if there is one that runs.
pub(crate) fn present(paths: &Paths) -> Option<Toolchain> {
    let versions = fs::read_dir(home(paths)).ok()?;
    let mut found: Vec<(Version, PathBuf)> = versions
        .flatten()
        .filter_map(|entry| Some((Version::parse(entry.file_name().to_str()?).ok()?, entry.path())))
        .collect();
    found.sort();
    let (version, folder) = found.pop()?;
    let rustc = folder.join("rustc");
    let linker = sysroot::linker().ok()?;
    let id = sysroot::id(&folder.join("root")).ok()?;
    (release(&rustc).ok()? == version).then_some(Toolchain::Private { rustc, linker, id })
}

/// The toolchain in the cache, made if it is not there.
///
/// # Errors
/// This is no Debian, its packages cannot be had or are too old, or the standard library does not
/// compile.
pub(crate) fn prepare(paths: &Paths) -> Result<Toolchain> {
    let _lock = paths.lock("wasm-toolchain")?;
    if let Some(toolchain) = present(paths) {
        return Ok(toolchain);
    }
    let linker = sysroot::linker()?;
    let scratch = paths.scratch("wasm-toolchain")?;
    let root = scratch.path().join("root");
    progress::step("fetch and unpack Debian's Rust compiler for wasm (140 MB)", || {
        packages::unpack(COMPILER, &scratch.path().join("packages"), &root)
    })?;
    let rustc = packages::write_wrapper(scratch.path(), "rustc")?;
    let version = release(&rustc).context("Debian's rustc does not run")?;
    if version < MINIMUM {
        bail!("Debian's rustc-web is {version}, expected {MINIMUM} or newer");
    }
    progress::step("compile the standard library for wasm, once", || {
        sysroot::build(&rustc, &linker, &scratch.path().join("seed"), &root)
    })?;
    discard(scratch.path())?;
    let folder = home(paths).join(version.to_string());
    packages::install(scratch.path(), &folder)?;
    present(paths).with_context(|| format!("the compiler in {} does not run", folder.display()))
}

fn home(paths: &Paths) -> PathBuf {
    paths.cache.join("wasm-toolchain")
}

/// The compiler's version, from running it.
fn release(rustc: &Path) -> Result<Version> {
    let lines = process::quiet(Command::new(rustc).arg("-vV"))?;
    let line = lines.lines().find_map(|line| line.strip_prefix("release: "));
    let text = line.with_context(|| format!("{} -vV names no release", rustc.display()))?;
    Version::parse(text).with_context(|| format!("rustc has the odd version `{text}`"))
}

/// Removes what only the making needed: packages, sources, the seed.
fn discard(folder: &Path) -> Result<()> {
    for part in ["packages", "seed", "root/usr/src", "root/usr/share", "root/usr/libexec"] {
        let path = folder.join(part);
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}
