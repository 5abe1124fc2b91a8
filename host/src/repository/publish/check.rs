//! Whether a version could be served, as far as its files alone tell.
//!
//! Owns the look at what was copied: `bundle.yaml`, and whether all that it and the model name is there
//! and begins as it should. It loads no model, compiles no plugin and knows no plugins folder: that is
//! for `nuke check`.

use std::collections::BTreeMap;
use std::path::Path;

use super::Kind;
use crate::config::{BundleConfig, BundlePath, PluginRef};
use crate::model::external_files;
use crate::plugin::Contract;
use crate::repository::checked::CheckedFolder;
use crate::repository::files;
use crate::repository::manifest::FileSum;
use crate::repository::signature::TrustedKeys;

/// Looks at a model's version with these files; `bare` if it was made of a model file alone.
pub(super) fn check_version(
    folder: &Path,
    files: &BTreeMap<String, FileSum>,
    bare: bool,
) -> Result<(), String> {
    let checked = CheckedFolder::open(folder, &TrustedKeys::default())?;
    let config = checked.bundle_config().map_err(|reason| without(folder, &reason))?;
    let there = |path: &BundlePath, role: &str| match files.contains_key(path.as_str()) {
        true => Ok(()),
        false => Err(format!("the {role} {path} is not among the files that are published")),
    };
    there(&config.model, "model").map_err(|reason| format!("{reason}; is it a version's folder?"))?;
    config.warmup.iter().try_for_each(|path| there(path, "warm-up sample"))?;
    check_model(folder, config.model.as_path(), files, bare)?;
    if let Some(PluginRef::File(path)) = &config.plugin {
        there(path, "plugin")?;
        check_plugin(folder, path, &config)?;
    }
    Ok(())
}

/// A reason without the hidden folder's name, which means nothing to who reads it.
fn without(folder: &Path, reason: &str) -> String {
    reason.replace(&format!("{}/", folder.display()), "")
}

fn check_model(
    folder: &Path,
    model: &Path,
    files: &BTreeMap<String, FileSum>,
    bare: bool,
) -> Result<(), String> {
    let content = files::read_within(folder, model)?;
    let name = model.display();
    if content.is_empty() {
        return Err(format!("{name} is empty"));
    }
    let named = external_files(&content).map_err(|reason| format!("{name}: {reason}"))?;
    let beside = model.parent().unwrap_or(Path::new(""));
    for location in named {
        let path = beside.join(&location);
        let there = path.to_str().is_some_and(|path| files.contains_key(path));
        if !there {
            let remedy = if bare { "publish the folder that has both" } else { "put it beside the model" };
            return Err(format!("{name} keeps weights in '{location}', which is not published; {remedy}"));
        }
    }
    Ok(())
}

fn check_plugin(folder: &Path, path: &BundlePath, config: &BundleConfig) -> Result<(), String> {
    let contract = contract(folder, path.as_str())?;
    let undeclared = contract.capabilities.iter().find(|needed| !config.capabilities.contains(needed));
    match undeclared {
        Some(needed) => Err(format!(
            "plugin {path} imports nuke:plugin/{name}; add capabilities: [{name}] to bundle.yaml",
            name = needed.as_str()
        )),
        None => Ok(()),
    }
}

/// Looks at a shared plugin's version with these files.
pub(super) fn check_shared_plugin(folder: &Path, files: &BTreeMap<String, FileSum>) -> Result<(), String> {
    let name = Kind::Plugin.main_file();
    if !files.contains_key(name) {
        return Err(format!("the plugin {name} is not among the files that are published"));
    }
    contract(folder, name).map(|_| ())
}

fn contract(folder: &Path, name: &str) -> Result<Contract, String> {
    let content = files::read_within(folder, Path::new(name))?;
    Contract::read(&content).map_err(|error| format!("plugin {name} {error}"))
}
