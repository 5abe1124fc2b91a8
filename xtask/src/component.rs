//! Owns the last step of a guest's build: a core module becomes a component, and every component is
//! checked to ask for nothing that the host will not give.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use wit_component::{ComponentEncoder, DecodedWasm};

use crate::fetch;

/// The parts of WASI that the host gives, empty. (Not `sockets`, not `http`.)
const EMPTY_WASI: [&str; 5] = ["cli", "clocks", "filesystem", "io", "random"];
/// Where the contract is in the text of a component's imports and exports.
const CONTRACT: &str = "nuke:plugin/";

/// Turns the core module in the file `core` into a component in the file `output`.
///
/// # Errors
/// `core` is no module with a component type in it, or the component asks for too much.
pub(crate) fn componentize(core: &Path, output: &Path) -> Result<()> {
    let module = fs::read(core).with_context(|| format!("cannot read {}", core.display()))?;
    let component =
        encode(&module).with_context(|| format!("{} cannot become a component", core.display()))?;
    check(&component).with_context(|| format!("the component of {}", core.display()))?;
    fetch::write_whole(output, &component)
}

fn encode(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default().validate(true).module(module)?.encode()
}

/// Checks that a component exports a half of the contract and imports nothing beyond the contract
/// and the WASI that the host gives.
///
/// # Errors
/// The names of what does not fit.
pub(crate) fn check(component: &[u8]) -> Result<()> {
    let DecodedWasm::Component(resolve, world) = wit_component::decode(component)? else {
        bail!("is a WIT package, expected a component");
    };
    let world = &resolve.worlds[world];
    let imports = world.imports.keys().map(|key| resolve.name_world_key(key));
    let refused: Vec<String> = imports.filter(|name| !is_allowed(name)).collect();
    if !refused.is_empty() {
        bail!("imports {}, which the host does not give", refused.join(", "));
    }
    let mut exports = world.exports.keys().map(|key| resolve.name_world_key(key));
    if !exports.any(|name| name.starts_with(CONTRACT)) {
        bail!("exports neither {CONTRACT}preprocessor nor {CONTRACT}postprocessor");
    }
    Ok(())
}

fn is_allowed(import: &str) -> bool {
    let wasi = import.strip_prefix("wasi:").and_then(|rest| rest.split_once('/'));
    import.starts_with(CONTRACT) || wasi.is_some_and(|(package, _)| EMPTY_WASI.contains(&package))
}

#[cfg(test)]
mod tests {
    use super::{check, encode, is_allowed};

    #[test]
    fn only_the_contract_and_empty_wasi_are_allowed() {
        assert!(is_allowed("nuke:plugin/logging@0.1.0"));
        assert!(is_allowed("wasi:io/streams@0.2.6"));
        for refused in ["wasi:http/types@0.2.6", "wasi:sockets/tcp@0.2.6", "wasi", "nuke:plugins/x", "init"] {
            assert!(!is_allowed(refused), "{refused}");
        }
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(encode(b"").is_err());
        assert!(encode(b"\0asm\x01\0\0").is_err());
        assert!(check(b"\0asm\x01\0\0\0").is_err());
    }

    #[test]
    fn a_component_without_the_contract_is_refused() {
        let component = encode(b"\0asm\x01\0\0\0").unwrap();
        let error = check(&component).unwrap_err().to_string();
        assert!(error.contains("exports neither"), "{error}");
    }
}
