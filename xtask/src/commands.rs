//! Owns which command runs which steps, in which order. No step's own work is here.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::clients::Clients;
use crate::paths::Paths;
use crate::wasm::Toolchain;
use crate::{
    HELP, bindings, component, guests, onnxruntime, plugins, process, progress, python, redis, serve, tidy,
};

/// Runs the command that `arguments` name.
///
/// # Errors
/// The failing step's, or one that names the unknown command.
pub(crate) fn run(paths: &Paths, arguments: &[String]) -> Result<ExitCode> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["help" | "-h" | "--help"] => print!("{HELP}"),
        ["serve", rest @ ..] => return serve::run(paths, after_separator(rest)),
        ["announce", address, parent] => serve::announce(paths, address, parent)?,
        ["test", rest @ ..] => return test(paths, after_separator(rest)),
        ["setup"] => drop(setup(paths)?),
        ["clients"] => drop(Clients::prepare(paths)?),
        ["plugins"] => plugins::build(paths, &Toolchain::prepare(paths)?)?,
        ["guests"] => guests::build(paths, &Toolchain::prepare(paths)?, &python::tests(paths)?)?,
        ["componentize", core, output] => component::componentize(Path::new(core), Path::new(output))?,
        ["bindings"] => bindings::write(paths)?,
        ["bindings", "--check"] => bindings::check(paths)?,
        ["tidy"] => tidy::run(paths)?,
        _ => bail!("no command `{}`; `cargo xtask help` lists them", words.join(" ")),
    }
    Ok(ExitCode::SUCCESS)
}

/// `cargo xtask test -- ARGS` and `cargo xtask test ARGS` mean the same.
fn after_separator<'a>(words: &'a [&'a str]) -> &'a [&'a str] {
    match words {
        ["--", rest @ ..] => rest,
        other => other,
    }
}

/// What `setup` has made ready.
struct Prepared {
    host: PathBuf,
    runtime: PathBuf,
    python: PathBuf,
    toolchain: Toolchain,
}

/// Everything that is fetched or built before plugins and tests can be. The host is built first: it gets the
/// library that it runs models with.
fn setup(paths: &Paths) -> Result<Prepared> {
    let host = serve::build_host(paths)?;
    let runtime = onnxruntime::ensure(paths, &host)?;
    let python = python::tests(paths)?;
    let toolchain = Toolchain::prepare(paths)?;
    progress::note(&format!("ONNX Runtime: {}", runtime.display()));
    progress::note(&format!("Python: {}", python.display()));
    Ok(Prepared { host, runtime, python, toolchain })
}

fn test(paths: &Paths, arguments: &[&str]) -> Result<ExitCode> {
    // The tests are of another package, for which cargo would not build the binary.
    let Prepared { host, runtime, python, toolchain } = setup(paths)?;
    plugins::build(paths, &toolchain)?;
    guests::build(paths, &toolchain, &python)?;
    let redis = redis::ensure(paths)?;
    progress::note(&format!("Redis: {}", redis.display()));
    let clients = Clients::prepare(paths)?;
    let mut cargo = Command::new(process::cargo());
    cargo
        .current_dir(&paths.root)
        .args(["test", "--release", "--workspace", "--no-fail-fast"])
        .args(arguments);
    cargo.env("NUKE_ORT_LIB", runtime).env("NUKE_TEST_PYTHON", python);
    cargo
        .env("NUKE_TEST_BIN", host)
        .env("NUKE_TEST_REDIS", redis)
        .env("NUKE_TEST_PLUGINS", paths.plugins())
        .env("NUKE_TEST_GUESTS", paths.guests());
    clients.tell(&mut cargo);
    progress::note("cargo test --release --workspace");
    process::exit_code(&mut cargo)
}

#[cfg(test)]
mod tests {
    use super::after_separator;

    #[test]
    fn the_separator_is_optional() {
        assert_eq!(after_separator(&["--", "swap", "--"]), ["swap", "--"]);
        assert_eq!(after_separator(&["swap"]), ["swap"]);
        assert!(after_separator(&[]).is_empty());
    }
}
