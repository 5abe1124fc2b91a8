//! Owns where the set-up's ONNX Runtime library comes from: the one that the user names, or the one that the
//! host itself gets. What is pinned, fetched and checked is the host's: `nuke runtime install`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::paths::Paths;
use crate::progress;

const REMEDY: &str = "set NUKE_ORT_LIB to an ONNX Runtime library to use another";

/// The library's path: what `NUKE_ORT_LIB` says, or the pinned one, fetched by the binary `host` if it is not
/// there.
///
/// # Errors
/// `NUKE_ORT_LIB` names no file, or the host cannot get the library.
pub(crate) fn ensure(paths: &Paths, host: &Path) -> Result<PathBuf> {
    if let Some(named) = env::var_os("NUKE_ORT_LIB").filter(|path| !path.is_empty()).map(PathBuf::from) {
        let path = fs::canonicalize(&named).with_context(|| {
            format!("NUKE_ORT_LIB names {}, which is no file; unset it or correct it", named.display())
        })?;
        return Ok(path);
    }
    progress::note("nuke runtime install");
    let mut install = Command::new(host);
    install.args(["runtime", "install"]).env("NUKE_CACHE", &paths.cache);
    let output = install.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {}", host.display()))?;
    if !output.status.success() {
        bail!("`nuke runtime install` ended with {}; {REMEDY}", output.status);
    }
    let path = String::from_utf8(output.stdout).context("the library's path is not UTF-8")?;
    Ok(PathBuf::from(path.trim_end_matches('\n')))
}
