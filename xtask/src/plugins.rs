//! Owns the building of the sample plugins: which packages, with which features, under which names they
//! are installed into `target/plugins`.

use std::path::Path;

use anyhow::{Context, Result};

use crate::paths::Paths;
use crate::wasm::{TARGET, Toolchain};
use crate::{component, process, progress};

/// One build of a package.
struct Plugin {
    package: &'static str,
    /// The name in a bundle's `plugin:`.
    name: &'static str,
    features: &'static [&'static str],
}

const PLUGINS: [Plugin; 3] = [
    Plugin { package: "co2-forecast", name: "co2-forecast", features: &[] },
    Plugin { package: "image-classify", name: "image-classify", features: &[] },
    Plugin {
        package: "image-classify",
        name: "image-classify-wasm",
        features: &["--no-default-features", "--features", "wasm-decode"],
    },
];

/// Builds every sample plugin as `NAME/VERSION/plugin.wasm`.
///
/// # Errors
/// One does not compile, or is no plugin.
pub(crate) fn build(paths: &Paths, toolchain: &Toolchain) -> Result<()> {
    for plugin in &PLUGINS {
        let version = version(paths, plugin.package)?;
        let output = paths.plugins().join(plugin.name).join(&version).join("plugin.wasm");
        let title = format!("build the plugin {} {version}", plugin.name);
        progress::step(&title, || build_one(paths, toolchain, plugin, &output))?;
    }
    Ok(())
}

fn build_one(paths: &Paths, toolchain: &Toolchain, plugin: &Plugin, output: &Path) -> Result<()> {
    let mut cargo = toolchain.cargo();
    cargo.current_dir(&paths.root).args(["build", "--quiet", "--profile", "plugin", "--target", TARGET]);
    cargo.args(["--package", plugin.package]).args(plugin.features);
    let target = toolchain.target_folder(paths);
    cargo.arg("--target-dir").arg(&target);
    process::quiet(&mut cargo)?;
    let core = format!("{}.wasm", plugin.package.replace('-', "_"));
    let core = target.join(TARGET).join("plugin").join(core);
    component::componentize(&core, output)
}

/// The version in the package's manifest.
fn version(paths: &Paths, package: &str) -> Result<String> {
    let mut cargo = std::process::Command::new(process::cargo());
    cargo.current_dir(&paths.root).args(["pkgid", "--package", package]);
    let id = process::quiet(&mut cargo)?;
    let version =
        version_of(id.trim()).with_context(|| format!("cargo names no version in `{}`", id.trim()))?;
    Ok(version.to_owned())
}

/// The version at the end of a package id: `path+file:///a/b#1.0.0` or `path+file:///a#b@1.0.0`.
fn version_of(id: &str) -> Option<&str> {
    let (_, fragment) = id.rsplit_once('#')?;
    let version = fragment.rsplit_once('@').map_or(fragment, |(_, version)| version);
    semver::Version::parse(version).is_ok().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::version_of;

    #[test]
    fn both_forms_of_a_package_id_are_read() {
        assert_eq!(version_of("path+file:///a/image-classify#1.0.0"), Some("1.0.0"));
        assert_eq!(version_of("path+file:///a/b#image-classify@1.2.0-rc.1"), Some("1.2.0-rc.1"));
        assert_eq!(version_of("path+file:///a/b#image-classify"), None);
        assert_eq!(version_of(""), None);
    }
}
