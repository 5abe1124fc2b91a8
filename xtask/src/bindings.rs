//! Owns the committed guest bindings: which generated file belongs where, and whether it is still what
//! the contract says. The generating itself is the crate in `xtask/codegen`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::paths::Paths;
use crate::{fetch, process, progress};

/// Generated file, committed file.
const FILES: [(&str, &str); 4] = [
    ("rust/bindings.rs", "plugin-sdk/src/bindings.rs"),
    ("c/processor.c", "tests/guests/c/gen/processor.c"),
    ("c/processor.h", "tests/guests/c/gen/processor.h"),
    ("c/processor_component_type.o", "tests/guests/c/gen/processor_component_type.o"),
];

/// Writes the committed files again.
///
/// # Errors
/// The contract cannot be read, or a file not written.
pub(crate) fn write(paths: &Paths) -> Result<()> {
    let generated = generate(paths)?;
    for (from, to) in FILES {
        fetch::write_whole(&paths.root.join(to), &read(&generated.join(from))?)?;
        progress::note(to);
    }
    Ok(())
}

/// Compares the committed files with what the contract gives now.
///
/// # Errors
/// The names of all that differ.
pub(crate) fn check(paths: &Paths) -> Result<()> {
    let generated = generate(paths)?;
    let mut stale = Vec::new();
    for (from, to) in FILES {
        if fs::read(paths.root.join(to)).ok() != Some(read(&generated.join(from))?) {
            stale.push(to);
        }
    }
    if !stale.is_empty() {
        bail!("{} is not what wit/plugin.wit gives; run `cargo xtask bindings`", stale.join(", "));
    }
    progress::note("the committed bindings are what wit/plugin.wit gives");
    Ok(())
}

fn generate(paths: &Paths) -> Result<PathBuf> {
    let output = paths.target.join("bindings");
    let mut cargo = Command::new(process::cargo());
    cargo.current_dir(paths.root.join("xtask/codegen")).args(["run", "--quiet", "--locked", "--target-dir"]);
    cargo.arg(paths.target.join("codegen")).arg("--").arg(paths.root.join("wit")).arg(&output);
    progress::step("generate the guest bindings", || process::quiet(&mut cargo))?;
    Ok(output)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
