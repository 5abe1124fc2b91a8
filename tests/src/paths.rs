//! Where the binary, the fixtures and what `cargo xtask test` builds are.

use std::env;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository.
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// The host: `NUKE_TEST_BIN`, else `nuke` beside the tests in cargo's target folder.
///
/// # Panics
/// If it has not been built.
pub fn binary() -> PathBuf {
    if let Some(path) = set("NUKE_TEST_BIN") {
        assert!(path.is_file(), "NUKE_TEST_BIN is {}, which is no file", path.display());
        return path;
    }
    let path = profile_folder().join("nuke");
    assert!(
        path.is_file(),
        "{} has not been built: run the tests by `cargo xtask test`, or `cargo build --release` first \
         (NUKE_TEST_BIN names another binary)",
        path.display()
    );
    path
}

/// The host as a command without settings of this process: of its `NUKE_…` variables only
/// those stay that say where ONNX Runtime and the cache are.
///
/// # Panics
/// If it has not been built.
pub fn nuke() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("NUKE_") && text != "NUKE_ORT_LIB" && text != "NUKE_CACHE" {
            command.env_remove(&name);
        }
    }
    command
}

/// The folder of built sample plugins: `NUKE_TEST_PLUGINS`, else `target/plugins`.
///
/// # Panics
/// If they have not been built.
pub fn plugins() -> PathBuf {
    built("NUKE_TEST_PLUGINS", "plugins")
}

/// The component of the guest in `language`: `c`, `js` or `rust`.
///
/// # Panics
/// If it has not been built.
pub fn guest(language: &str) -> PathBuf {
    let path = built("NUKE_TEST_GUESTS", "guests").join(language).join("plugin.wasm");
    assert!(path.is_file(), "{} has not been built: run the tests by `cargo xtask test`", path.display());
    path
}

/// One of the photographs in `tests/fixtures/photos`.
///
/// # Panics
/// If there is no such file.
pub fn photo(name: &str) -> Vec<u8> {
    let path = root().join("tests/fixtures/photos").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The Python that has the packages of `tests/python/requirements.txt`.
///
/// # Panics
/// If `NUKE_TEST_PYTHON` does not name one.
pub fn python() -> PathBuf {
    let path = set("NUKE_TEST_PYTHON").unwrap_or_else(|| {
        panic!(
            "NUKE_TEST_PYTHON is not set: run the tests by `cargo xtask test`, or set it to a Python that \
             has the packages of tests/python/requirements.txt"
        )
    });
    assert!(path.is_file(), "NUKE_TEST_PYTHON is {}, which is no file", path.display());
    path
}

/// The Redis server: `NUKE_TEST_REDIS`, else `redis-server` on the path.
///
/// # Panics
/// If there is none.
pub fn redis_server() -> PathBuf {
    let on_path = || {
        let folders = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&folders).map(|folder| folder.join("redis-server")).find(|path| path.is_file())
    };
    let path = set("NUKE_TEST_REDIS").or_else(on_path).unwrap_or_else(|| {
        panic!(
            "there is no redis-server on the path: run the tests by `cargo xtask test`, or install it, or set \
             NUKE_TEST_REDIS to one"
        )
    });
    assert!(path.is_file(), "NUKE_TEST_REDIS is {}, which is no file", path.display());
    path
}

/// A client program that `cargo xtask test` fetched, by its variable; `None` where this machine cannot run it. Then
/// the reason is told, also while the test's output is kept back.
pub fn program(variable: &str) -> Option<PathBuf> {
    let path = set(variable);
    if path.is_none() {
        let reason = env::var(format!("{variable}_MISSING"));
        let reason = reason.unwrap_or_else(|_| "it is not set; `cargo xtask test` sets it".to_owned());
        // Not by a macro: what those print is shown for failed tests alone.
        let _ = writeln!(io::stderr(), "SKIPPED: a test that needs {variable}: {reason}");
    }
    path
}

/// A folder of the tests' own in cargo's target folder: logs and compiled plugins.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let path = profile_folder().join("nuke-tests").join(name);
    std::fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

fn built(variable: &str, name: &str) -> PathBuf {
    let path = set(variable).unwrap_or_else(|| root().join("target").join(name));
    assert!(
        path.is_dir(),
        "{} has not been built: run the tests by `cargo xtask test` ({variable} names another folder)",
        path.display()
    );
    path
}

/// Cargo's folder for this profile: a test is run from `<target>/<profile>/deps`.
fn profile_folder() -> PathBuf {
    let test =
        env::current_exe().unwrap_or_else(|error| panic!("where this test lies is not known: {error}"));
    let deps = test.parent().unwrap_or(&test);
    deps.parent().unwrap_or(deps).to_path_buf()
}

fn set(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}
