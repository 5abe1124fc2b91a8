//! Owns the choice of a Rust toolchain that compiles for [`TARGET`]: the user's own with the target's
//! standard library, or, where that cannot be had, one out of Debian packages, unpacked into the cache.

mod debian;
mod sysroot;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::paths::Paths;
use crate::{process, progress};

/// The target that plugins in Rust are built for: it has no WASI at all.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";
const TARGET_FLAGS_VARIABLE: &str = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS";
const TARGET_LINKER_VARIABLE: &str = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER";
/// How long `rustup target add` may take: it fetches some 20 MB.
const RUSTUP_LIMIT: Duration = Duration::from_secs(180);

/// A way to compile for [`TARGET`].
#[derive(Debug)]
pub(crate) enum Toolchain {
    /// The user's rustc has the target's standard library.
    Own,
    /// A rustc of its own, with a linker.
    Private {
        /// Runs rustc with its libraries.
        rustc: PathBuf,
        /// A linker for WebAssembly.
        linker: PathBuf,
        /// Names this build of the standard library: code compiled against another does not link.
        id: String,
    },
}

impl Toolchain {
    /// The first way that works, or the one that `NUKE_WASM_TOOLCHAIN` names. Says which it is.
    ///
    /// # Errors
    /// No way works: then with each way's reason, and the remedy.
    pub(crate) fn prepare(paths: &Paths) -> Result<Self> {
        let wanted = env::var("NUKE_WASM_TOOLCHAIN").unwrap_or_default();
        match wanted.as_str() {
            "" => {}
            "rustup" => return own(true),
            "debian" => return private(paths),
            other => bail!("NUKE_WASM_TOOLCHAIN is `{other}`, expected `rustup` or `debian`"),
        }
        // What is there already comes before what would have to be fetched.
        if let Ok(toolchain) = own(false) {
            return Ok(toolchain);
        }
        if let Some(toolchain) = debian::present(paths) {
            return Ok(told(toolchain));
        }
        let from_rustup = match own(true) {
            Ok(toolchain) => return Ok(toolchain),
            Err(error) => error,
        };
        private(paths).with_context(|| {
            format!(
                "no Rust toolchain for {TARGET}. Remedy: `rustup target add {TARGET}`. Neither way worked: \
                 {from_rustup:#}; and Debian packages"
            )
        })
    }

    /// Cargo's target folder for guest code: apart from the host's, so that neither rebuilds the other,
    /// and apart from that of another standard library.
    pub(crate) fn target_folder(&self, paths: &Paths) -> PathBuf {
        let name = match self {
            Self::Own => "own",
            Self::Private { id, .. } => id,
        };
        paths.target.join("wasm").join(name)
    }

    /// A cargo command for [`TARGET`]. The flags in `.cargo/config.toml` apply, the user's do not.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(process::cargo());
        for variable in
            ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WORKSPACE_WRAPPER"]
        {
            command.env_remove(variable);
        }
        if let Self::Private { rustc, linker, .. } = self {
            command.env("RUSTC", rustc).env(TARGET_LINKER_VARIABLE, linker).env_remove("RUSTC_WRAPPER");
        }
        command
    }
}

fn told(toolchain: Toolchain) -> Toolchain {
    match &toolchain {
        Toolchain::Own => progress::note(&format!("wasm toolchain: your rustc, which has {TARGET}")),
        Toolchain::Private { rustc, .. } => {
            progress::note(&format!("wasm toolchain: Debian's, {}", rustc.display()))
        }
    }
    toolchain
}

fn private(paths: &Paths) -> Result<Toolchain> {
    debian::prepare(paths).map(told)
}

/// The user's toolchain, if it has the target, or gets it from rustup where `may_add`.
fn own(may_add: bool) -> Result<Toolchain> {
    if has_target()? {
        return Ok(told(Toolchain::Own));
    }
    if !may_add {
        bail!("rustc has no {TARGET}");
    }
    let Some(rustup) = process::on_path("rustup") else {
        bail!("rustc has no {TARGET}, and there is no rustup to add it");
    };
    progress::step(&format!("rustup target add {TARGET}"), || {
        let mut command = Command::new(rustup);
        if !process::succeeds_within(command.args(["target", "add", TARGET]), RUSTUP_LIMIT) {
            bail!("`rustup target add {TARGET}` failed");
        }
        Ok(())
    })?;
    if !has_target()? {
        bail!("rustup added {TARGET}, but not to the rustc on the path");
    }
    Ok(told(Toolchain::Own))
}

fn has_target() -> Result<bool> {
    let mut rustc = Command::new("rustc");
    let folder = process::quiet(rustc.args(["--print", "target-libdir", "--target", TARGET]))
        .context("rustc is needed")?;
    let Ok(entries) = fs::read_dir(folder.trim()) else { return Ok(false) };
    let names = entries.flatten().map(|entry| entry.file_name());
    Ok(names.into_iter().any(|name| is_std(&name.to_string_lossy())))
}

fn is_std(name: &str) -> bool {
    name.starts_with("libstd-") && name.ends_with(".rlib")
}

#[cfg(test)]
mod tests {
    use super::is_std;

    #[test]
    fn the_standard_library_is_told_by_its_name() {
        assert!(is_std("libstd-7cc80c8f4908f413.rlib"));
        assert!(!is_std("libstd_detect-455383bbe495f148.rlib"));
        assert!(!is_std("libstd-7cc80c8f4908f413.rmeta"));
    }
}
