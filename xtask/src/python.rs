//! Owns the Python side of the set-up: the user's python3 and pip, and virtual environments in the cache
//! that hold exactly what a requirements file with hashes says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::paths::{Paths, Scratch};
use crate::{fetch, process, progress};

/// The user's Python.
pub(crate) const SYSTEM: &str = "python3";
/// The oldest Python that the pinned packages have wheels for.
const MINIMUM: (u32, u32) = (3, 11);
const READY: &str = "nuke-ready";

/// The Python of the tests' environment, made if it is not there.
///
/// # Errors
/// python3 is missing or too old, or the packages cannot be fetched.
pub(crate) fn tests(paths: &Paths) -> Result<PathBuf> {
    environment(paths, &paths.root.join("tests/python/requirements.txt"), "the Python packages of the tests")
}

/// The Python of an environment that holds what `requirements` lists. Kept in the cache under the
/// digest of the file and the Python's version.
///
/// # Errors
/// As for [`tests`].
pub(crate) fn environment(paths: &Paths, requirements: &Path, what: &str) -> Result<PathBuf> {
    let list = fs::read(requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let version = version()?;
    let key = fetch::short_digest(&[&list, version.as_bytes()]);
    let folder = paths.cache.join(format!("venv-{key}"));
    let python = folder.join("bin/python");
    let _lock = paths.lock(&format!("venv-{key}"))?;
    let is_ready = folder.join(READY).exists();
    if !is_ready || !works(&python) {
        progress::step(&format!("install {what}"), || install(paths, &folder, requirements))?;
    }
    Ok(python)
}

/// `python -m pip`, asking nothing and checking for no newer pip.
pub(crate) fn pip(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "pip"]);
    command.env("PIP_DISABLE_PIP_VERSION_CHECK", "1").env("PIP_NO_INPUT", "1").env_remove("PYTHONHOME");
    command
}

/// Checks that the user's python3 has pip.
///
/// # Errors
/// One line with the remedy when it has not.
pub(crate) fn require_pip() -> Result<()> {
    let remedy = "python3 with pip is needed (Debian: `apt-get install python3-pip python3-venv`)";
    process::quiet(pip(Path::new(SYSTEM)).arg("--version")).map(drop).context(remedy)
}

/// The version and the place of the user's python3, as one line.
fn version() -> Result<String> {
    let script = "import sys; print(*sys.version_info[:3], sys.prefix)";
    let line = process::quiet(Command::new(SYSTEM).args(["-c", script])).context("python3 is needed")?;
    require_minimum(line.trim())?;
    Ok(line)
}

fn require_minimum(line: &str) -> Result<()> {
    let mut numbers = line.split(' ').map(|word| word.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < MINIMUM {
        let (major, minor) = MINIMUM;
        bail!(
            "python3 is {}.{}, expected {major}.{minor} or newer; put a newer one first on the path",
            found.0,
            found.1
        );
    }
    Ok(())
}

fn works(python: &Path) -> bool {
    process::quiet(Command::new(python).args(["-c", "pass"])).is_ok()
}

/// The folder is built in place (a virtual environment cannot be moved) and marked when whole.
fn install(paths: &Paths, folder: &Path, requirements: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    let scratch = paths.scratch("venv")?;
    let mut installer = create(folder, &scratch)?;
    // The files name everything that is to be there, and no more.
    let options = ["install", "--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:", "-r"];
    installer.args(options).arg(requirements);
    process::quiet(&mut installer)
        .with_context(|| format!("pip cannot install {}", requirements.display()))?;
    fs::write(folder.join(READY), b"").with_context(|| format!("cannot write into {}", folder.display()))
}

/// Makes the environment and returns the pip that installs into it: its own, or the user's where
/// Python came without the means to bring one along (Debian without python3-venv).
fn create(folder: &Path, scratch: &Scratch) -> Result<Command> {
    let python = folder.join("bin/python");
    let whole = process::quiet(Command::new(SYSTEM).args(["-m", "venv"]).arg(folder));
    if whole.is_ok() {
        return Ok(pip(&python));
    }
    let bare =
        process::quiet(Command::new(SYSTEM).args(["-m", "venv", "--clear", "--without-pip"]).arg(folder));
    bare.context("python3 cannot make a virtual environment (Debian: `apt-get install python3-venv`)")?;
    require_pip()?;
    let mut command = pip(Path::new(SYSTEM));
    command.arg("--python").arg(&python).current_dir(scratch.path());
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::require_minimum;

    #[test]
    fn an_old_python_is_refused_with_both_versions() {
        assert!(require_minimum("3 11 7 /usr").is_ok());
        assert!(require_minimum("4 0 0 /usr").is_ok());
        let error = require_minimum("3 9 2 /usr").unwrap_err().to_string();
        assert!(error.contains("3.9") && error.contains("3.11"), "{error}");
        assert!(require_minimum("").is_err());
    }
}
