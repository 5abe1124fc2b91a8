//! Where this machine keeps what can be made again.
//!
//! Owns the choice of the cache folder. It never creates anything.

use std::path::PathBuf;

/// `NUKE_CACHE`, else `nuke` in `XDG_CACHE_HOME`, else `.cache/nuke` in the home folder; relative ones do
/// not count.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("NUKE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("nuke")))
        .or_else(|| set("HOME").map(|folder| folder.join(".cache").join("nuke")))
}
