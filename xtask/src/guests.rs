//! Owns the building of the guest fixtures: one little plugin in C, JavaScript and Rust, to prove that the
//! contract has no language's shape. What they compute is in `tests/guests`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::node::Node;
use crate::paths::Paths;
use crate::wasm::{TARGET, Toolchain};
use crate::{component, fetch, process, progress};

/// Builds all guests as `LANGUAGE/plugin.wasm`. C and JavaScript are built only when a file they are
/// made of has changed; cargo knows that for Rust.
///
/// # Errors
/// One does not compile, or is no plugin.
pub(crate) fn build(paths: &Paths, toolchain: &Toolchain, python: &Path) -> Result<()> {
    unless_built(paths, "c", &["plugin.c", "gen/processor.c", "gen/processor.h"], |source, output| {
        build_c(paths, python, source, output)
    })?;
    unless_built(
        paths,
        "js",
        &["plugin.js", "package-lock.json", "../../../wit/plugin.wit"],
        |source, output| build_js(paths, source, output),
    )?;
    let (source, output) = folders(paths, "rust");
    progress::step("build the guest in Rust", || build_rust(paths, toolchain, &source, &output))
}

fn folders(paths: &Paths, language: &str) -> (PathBuf, PathBuf) {
    (paths.root.join("tests/guests").join(language), paths.guests().join(language).join("plugin.wasm"))
}

fn unless_built(
    paths: &Paths,
    language: &str,
    inputs: &[&str],
    build: impl FnOnce(&Path, &Path) -> Result<()>,
) -> Result<()> {
    let (source, output) = folders(paths, language);
    let stamp = output.with_file_name("inputs.sha256");
    let digest = digest(&source, inputs)?;
    if output.exists() && fs::read_to_string(&stamp).is_ok_and(|built| built == digest) {
        return Ok(());
    }
    progress::step(&format!("build the guest in {language}"), || build(&source, &output))?;
    fetch::write_whole(&stamp, digest.as_bytes())
}

fn digest(source: &Path, inputs: &[&str]) -> Result<String> {
    let mut contents = Vec::new();
    for input in inputs {
        let path = source.join(input);
        contents.push(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    let parts: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    Ok(fetch::short_digest(&parts))
}

/// `zig cc` comes as a Python wheel with a C library for wasm32-wasi; what is used of it needs no WASI.
fn build_c(paths: &Paths, python: &Path, source: &Path, output: &Path) -> Result<()> {
    let scratch = paths.scratch("guest-c")?;
    let core = scratch.path().join("core.wasm");
    let mut compiler = Command::new(python);
    compiler.current_dir(source).args([
        "-m",
        "ziglang",
        "cc",
        "-target",
        "wasm32-wasi",
        "-mexec-model=reactor",
    ]);
    compiler.args(["-O2", "-s", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&core);
    compiler.args(["plugin.c", "gen/processor.c", "gen/processor_component_type.o"]);
    compiler.env("ZIG_GLOBAL_CACHE_DIR", paths.cache.join("zig"));
    compiler.env("ZIG_LOCAL_CACHE_DIR", paths.cache.join("zig"));
    process::quiet(&mut compiler)?;
    component::componentize(&core, output)
}

fn build_js(paths: &Paths, source: &Path, output: &Path) -> Result<()> {
    let node = Node::prepare(paths)?;
    let packages = node.packages(paths, source)?;
    let scratch = paths.scratch("guest-js")?;
    let built = scratch.path().join("plugin.wasm");
    let mut builder = node.command(packages.join("node_modules/.bin/componentize-qjs"));
    builder.arg("--wit").arg(paths.root.join("wit")).args(["--world", "processor", "--js"]);
    builder
        .arg(source.join("plugin.js"))
        .args(["--sync", "--stub-wasi", "--opt-size", "--output"])
        .arg(&built);
    process::quiet(&mut builder)?;
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    component::check(&bytes).context("the guest in JavaScript")?;
    fetch::write_whole(output, &bytes)
}

fn build_rust(paths: &Paths, toolchain: &Toolchain, source: &Path, output: &Path) -> Result<()> {
    let mut cargo = toolchain.cargo();
    cargo.current_dir(source).args([
        "build",
        "--quiet",
        "--locked",
        "--profile",
        "plugin",
        "--target",
        TARGET,
    ]);
    let target = toolchain.target_folder(paths);
    cargo.arg("--target-dir").arg(&target);
    process::quiet(&mut cargo)?;
    component::componentize(&target.join(TARGET).join("plugin/guest_rust.wasm"), output)
}
