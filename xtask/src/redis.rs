//! Owns the Redis server of the tests: the one on the path, else Debian's, unpacked into the cache: nothing
//! installed, no root needed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::packages::Wanted;
use crate::paths::Paths;
use crate::{packages, process, progress};

const PROGRAM: &str = "redis-server";
/// The program, and the libraries that few machines have.
const SERVER: Wanted = Wanted {
    name: "the Redis server",
    packages: &["redis-server", "redis-tools"],
    followed: &["liblzf", "libjemalloc"],
};

/// The server, fetched if there is none.
///
/// # Errors
/// This is no Debian, or its packages cannot be had: then with what to do.
pub(crate) fn ensure(paths: &Paths) -> Result<PathBuf> {
    if let Some(path) = process::on_path(PROGRAM) {
        return Ok(path);
    }
    let _lock = paths.lock("redis")?;
    let folder = paths.cache.join("redis");
    let server = folder.join(PROGRAM);
    if runs(&server) {
        return Ok(server);
    }
    let remedy = "there is no redis-server on the path; install it (Debian: `apt-get install redis-server`)";
    let scratch = paths.scratch("redis")?;
    let packages = scratch.path().join("packages");
    progress::step("fetch and unpack Debian's Redis server for the tests (2 MB)", || {
        packages::unpack(SERVER, &packages, &scratch.path().join("root"))
    })
    .context(remedy)?;
    fs::remove_dir_all(&packages).with_context(|| format!("cannot remove {}", packages.display()))?;
    packages::write_wrapper(scratch.path(), PROGRAM)?;
    packages::install(scratch.path(), &folder)?;
    process::quiet(Command::new(&server).arg("--version")).context(remedy)?;
    Ok(server)
}

fn runs(server: &PathBuf) -> bool {
    server.is_file() && process::quiet(Command::new(server).arg("--version")).is_ok()
}
