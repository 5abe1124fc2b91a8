//! Builds the plugin components of `fixtures/components`: well-behaved, broken and hostile ones.
//!
//! Owns the way from a fixture's text to a component's bytes. A fixture is the fields of one core
//! module, written against the canonical ABI by hand; what all share stands in `prelude.wat`, and
//! the world it is to be of stands in its first line. It never runs a component.

use std::fs;
use std::path::{Path, PathBuf};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Components that are made from another's bytes instead of a file of their own.
const DERIVED: [&str; 3] = ["core-module", "not-wasm", "truncated"];

/// The bytes of a fixture, such as `good` or `loop-forever`.
///
/// # Panics
/// If there is no such fixture, or it is no valid component: both are faults of the tests.
pub fn build(name: &str) -> Vec<u8> {
    match name {
        "core-module" => core_module("good"),
        "not-wasm" => b"This file is text. Nothing in it is a component.\n".to_vec(),
        "truncated" => {
            let whole = component("good");
            whole[..whole.len() / 2].to_vec()
        }
        _ => component(name),
    }
}

/// The names of all fixtures, sorted.
///
/// # Panics
/// If the folder cannot be read.
pub fn names() -> Vec<String> {
    let entries = fs::read_dir(folder()).unwrap_or_else(|error| panic!("{}: {error}", folder().display()));
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".wat")?.to_owned()))
        .filter(|name| name != "prelude")
        .chain(DERIVED.map(str::to_owned))
        .collect();
    names.sort_unstable();
    names
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/components")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn fixture(name: &str) -> String {
    read(&folder().join(name).with_extension("wat"))
}

/// The fixture's fields and the prelude's, as one module. A fixture that declares a memory of its
/// own does without the prelude's.
fn core_module(name: &str) -> Vec<u8> {
    let fields = fixture(name);
    let mut prelude = fixture("prelude");
    if fields.contains("(memory (export") {
        prelude = prelude.replace("(memory (export \"memory\") 2)", "");
    }
    let text = format!("(module\n{fields}\n{prelude}\n)");
    wat::parse_str(&text).unwrap_or_else(|error| panic!("fixture '{name}': {error}"))
}

fn component(name: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/plugin.wit");
    let mut packages = Vec::new();
    for path in [contract, folder().join("wit/fixtures.wit")] {
        let package = resolve.push_source(&path.display().to_string(), &read(&path));
        packages.push(package.unwrap_or_else(|error| panic!("{}: {error:#}", path.display())));
    }
    let fields = fixture(name);
    let world = fields
        .lines()
        .next()
        .and_then(|line| line.strip_prefix(";; world: "))
        .unwrap_or_else(|| panic!("fixture '{name}': the first line should be ';; world: …'"));
    let world = resolve
        .select_world(&packages, Some(world))
        .unwrap_or_else(|error| panic!("fixture '{name}': {error:#}"));
    let mut module = core_module(name);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .unwrap_or_else(|error| panic!("fixture '{name}': {error:#}"));
    ComponentEncoder::default()
        .module(&module)
        .and_then(|encoder| encoder.validate(true).encode())
        .unwrap_or_else(|error| panic!("fixture '{name}': {error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fixture_is_what_it_claims_to_be() {
        for name in names() {
            let bytes = build(&name);
            assert_eq!(
                wasmparser::validate(&bytes).is_ok(),
                name != "truncated" && name != "not-wasm",
                "{name}"
            );
            let is_component = wasmparser::Parser::is_component(&bytes);
            assert_eq!(is_component, name != "core-module" && name != "not-wasm", "{name}");
        }
    }

    #[test]
    fn a_fixture_imports_only_what_it_calls() {
        for (name, import) in [("good", None), ("log-flood", Some("logging")), ("uses-image", Some("image"))]
        {
            let text = String::from_utf8_lossy(&build(name)).into_owned();
            for interface in ["logging", "image", "bundle"] {
                let path = format!("nuke:plugin/{interface}@0.1.0");
                assert_eq!(text.contains(&path), import == Some(interface), "{name}: {interface}");
            }
        }
    }
}
