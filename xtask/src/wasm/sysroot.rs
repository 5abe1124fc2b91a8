//! Owns the standard library for wasm: compiled from the compiler's own sources by way of an empty
//! crate, so that nothing but std is in it, and put where the compiler looks for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{TARGET, TARGET_FLAGS_VARIABLE, TARGET_LINKER_VARIABLE, is_std};
use crate::{fetch, process};

/// SIMD as in `.cargo/config.toml`, and the bitcode that a guest built with `lto = "fat"` asks of std.
const FLAGS: &str = "-Ctarget-feature=+simd128 -Cembed-bitcode=yes";
const SEED: &str = "seed";
const MANIFEST: &str = "\
[package]
name = \"seed\"
version = \"0.0.0\"
edition = \"2021\"

[lib]

[profile.release]
panic = \"abort\"

[workspace]
";

/// A linker for WebAssembly: the one that comes with the user's rustc, or LLVM's on the path.
///
/// # Errors
/// There is none.
pub(crate) fn linker() -> Result<PathBuf> {
    let sysroot =
        process::quiet(Command::new("rustc").args(["--print", "sysroot"])).context("rustc is needed")?;
    let hosts = Path::new(sysroot.trim()).join("lib/rustlib");
    let shipped =
        fs::read_dir(hosts).into_iter().flatten().flatten().map(|host| host.path().join("bin/rust-lld"));
    if let Some(found) = shipped.into_iter().find(|path| path.is_file()) {
        return Ok(found);
    }
    let installed = ["rust-lld", "wasm-ld"].into_iter().find_map(process::on_path);
    installed.context(
        "there is no linker for wasm: rustc has no rust-lld and wasm-ld is not on the path (Debian: lld)",
    )
}

/// Compiles std with `rustc` in the folder `seed` and installs it under `root`, the compiler's.
///
/// # Errors
/// It does not compile.
pub(crate) fn build(rustc: &Path, linker: &Path, seed: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(seed.join("src")).with_context(|| format!("cannot create {}", seed.display()))?;
    fs::write(seed.join("Cargo.toml"), MANIFEST)?;
    fs::write(seed.join("src/lib.rs"), "")?;
    let mut cargo = Command::new(process::cargo());
    cargo.current_dir(seed).args(["build", "--release", "--target", TARGET, "-Zbuild-std=std,panic_abort"]);
    cargo.arg("--target-dir").arg(seed.join("target"));
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(variable);
    }
    // `-Zbuild-std` is not stable; the compiler and the sources are of one package, so it is sound here.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", rustc);
    cargo.env(TARGET_FLAGS_VARIABLE, FLAGS).env(TARGET_LINKER_VARIABLE, linker);
    process::quiet(&mut cargo).context("the standard library does not compile")?;
    let built = seed.join("target").join(TARGET).join("release/deps");
    copy_libraries(&built, &libraries(root))
}

/// A name for the standard library under `root`: no other build of it has the same.
///
/// # Errors
/// There is none.
pub(crate) fn id(root: &Path) -> Result<String> {
    let folder = libraries(root);
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let std = entries.flatten().find(|entry| is_std(&entry.file_name().to_string_lossy()));
    let mut id = fetch::file_sha256(&std.with_context(|| format!("no std in {}", folder.display()))?.path())?;
    id.truncate(16);
    Ok(id)
}

fn libraries(root: &Path) -> PathBuf {
    root.join("usr/lib/rustlib").join(TARGET).join("lib")
}

fn copy_libraries(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    let mut has_std = false;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".rlib") || name.starts_with(&format!("lib{SEED}-")) {
            continue;
        }
        has_std |= is_std(&name);
        fs::copy(entry.path(), to.join(&name))
            .with_context(|| format!("cannot copy {name} to {}", to.display()))?;
    }
    if !has_std {
        bail!("cargo built no std in {}", from.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::copy_libraries;

    #[test]
    fn all_libraries_but_the_seed_are_copied_and_std_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        for name in ["libcore-1.rlib", "libseed-1.rlib", "libcore-1.rmeta"] {
            std::fs::write(from.join(name), b"").unwrap();
        }
        assert!(copy_libraries(&from, &to).is_err());
        std::fs::write(from.join("libstd-1.rlib"), b"").unwrap();
        copy_libraries(&from, &to).unwrap();
        let mut names: Vec<_> =
            std::fs::read_dir(&to).unwrap().flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        assert_eq!(names, ["libcore-1.rlib", "libstd-1.rlib"]);
    }
}
