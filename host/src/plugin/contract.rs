//! What a component's own bytes say about the contract it was built for.
//!
//! Owns the reading of a component's imports and exports before anything is compiled, and the
//! refusals that follow from it. It never compiles and never runs a component: the bytes are
//! untrusted and are validated whole first.

use semver::Version;
use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

use crate::config::Capability;

const PACKAGE: &str = "nuke:plugin/";
/// The contract that this host serves; see `wit/CHANGES.md`.
const SERVED: Version = Version::new(0, 1, 0);

/// The halves that a plugin exports and the capabilities that it imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// It exports `preprocessor`.
    pub preprocessor: bool,
    /// It exports `postprocessor`.
    pub postprocessor: bool,
    /// What it imports, sorted.
    pub capabilities: Vec<Capability>,
    /// Bytes of linear memory that its modules declare to start with, all together.
    pub initial_memory: u64,
}

/// Why a component does not fit this host. Messages name the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    /// The bytes are no WebAssembly, or damaged.
    #[error("is not valid WebAssembly: {0}")]
    Malformed(String),
    /// A core module where a component is needed.
    #[error(
        "is a core WebAssembly module, not a component; wrap it with `wasm-tools component new` \
         (or `cargo xtask componentize`)"
    )]
    CoreModule,
    /// Built for another version of the contract.
    #[error(
        "was built for nuke:plugin@{found} ({interface}), this host serves nuke:plugin@{SERVED}; rebuild it against this host's wit/"
    )]
    OtherVersion {
        /// The version that the component names.
        found: String,
        /// Where it names it.
        interface: String,
    },
    /// Neither half is there.
    #[error("exports neither nuke:plugin/preprocessor nor nuke:plugin/postprocessor; it exports {0}")]
    NoHalf(String),
    /// An import that no host of this contract has.
    #[error("imports {0}, which this host does not offer")]
    UnknownImport(String),
    /// Network access.
    #[error(
        "imports {0}, but plugins have no network; build it without (componentize-py, componentize-qjs: --stub-wasi)"
    )]
    Network(String),
}

impl Contract {
    /// Reads the contract from a component's bytes.
    ///
    /// # Errors
    /// [`ContractError`], each a reason not to load the component.
    pub fn read(component: &[u8]) -> Result<Self, ContractError> {
        if !component.starts_with(b"\0asm") {
            return Err(ContractError::Malformed("it does not begin as WebAssembly does".to_owned()));
        }
        if Parser::is_core_wasm(component) {
            return Err(ContractError::CoreModule);
        }
        let features = WasmFeatures::default() | WasmFeatures::COMPONENT_MODEL;
        Validator::new_with_features(features).validate_all(component).map_err(|error| malformed(&error))?;
        let Outline { imports, exports, initial_memory } = outline(component)?;

        let mut capabilities = Vec::new();
        for name in &imports {
            if let Some(capability) = imported_capability(name)? {
                capabilities.push(capability);
            }
        }
        capabilities.sort_unstable();
        let contract = Self {
            preprocessor: exports_interface(&exports, "preprocessor")?,
            postprocessor: exports_interface(&exports, "postprocessor")?,
            capabilities,
            initial_memory,
        };
        if !contract.preprocessor && !contract.postprocessor {
            let names = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
            return Err(ContractError::NoHalf(names));
        }
        Ok(contract)
    }
}

fn malformed(error: &wasmparser::BinaryReaderError) -> ContractError {
    ContractError::Malformed(error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What can be read of a component without compiling it.
#[derive(Default)]
struct Outline {
    /// The names that the outermost component imports.
    imports: Vec<String>,
    /// The names that it exports.
    exports: Vec<String>,
    initial_memory: u64,
}

/// Bytes of a page of linear memory, unless the module says otherwise.
const PAGE: u64 = 64 << 10;

fn outline(component: &[u8]) -> Result<Outline, ContractError> {
    let malformed = |error: wasmparser::BinaryReaderError| malformed(&error);
    let (mut outline, mut depth) = (Outline::default(), 0_usize);
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(malformed)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err(ContractError::CoreModule);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    outline.imports.push(import.map_err(malformed)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    outline.exports.push(export.map_err(malformed)?.name.name.to_owned());
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory.map_err(malformed)?;
                    let page = memory.page_size_log2.map_or(PAGE, |log2| 1 << log2.min(63));
                    let bytes = memory.initial.saturating_mul(page);
                    outline.initial_memory = outline.initial_memory.saturating_add(bytes);
                }
            }
            _ => {}
        }
    }
    Ok(outline)
}

fn imported_capability(name: &str) -> Result<Option<Capability>, ContractError> {
    if name.starts_with("wasi:sockets/") || name.starts_with("wasi:http/") {
        return Err(ContractError::Network(name.to_owned()));
    }
    if name.starts_with("wasi:") {
        return Ok(None);
    }
    let Some(interface) = own_interface(name)? else {
        return Err(ContractError::UnknownImport(name.to_owned()));
    };
    if interface == "types" {
        return Ok(None);
    }
    let capability = Capability::ALL.into_iter().find(|capability| capability.as_str() == interface);
    capability.map(Some).ok_or_else(|| ContractError::UnknownImport(name.to_owned()))
}

fn exports_interface(exports: &[String], wanted: &str) -> Result<bool, ContractError> {
    for name in exports {
        if own_interface(name)? == Some(wanted) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The interface's bare name if it is of our package and of a version that this host serves.
fn own_interface(name: &str) -> Result<Option<&str>, ContractError> {
    let Some(rest) = name.strip_prefix(PACKAGE) else {
        return Ok(None);
    };
    let (interface, version) = rest.split_once('@').unwrap_or((rest, ""));
    let served =
        Version::parse(version).is_ok_and(|found| (found.major, found.minor) == (SERVED.major, SERVED.minor));
    if served {
        return Ok(Some(interface));
    }
    let found = if version.is_empty() { "(no version)" } else { version };
    Err(ContractError::OtherVersion { found: found.to_owned(), interface: interface.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_component_are_refused_with_a_reason() {
        assert!(matches!(Contract::read(b""), Err(ContractError::Malformed(_))));
        assert!(matches!(Contract::read(b"hello, world"), Err(ContractError::Malformed(_))));
        let core_module = b"\0asm\x01\0\0\0";
        assert_eq!(Contract::read(core_module), Err(ContractError::CoreModule));
        let empty_component = b"\0asm\x0d\0\x01\0";
        assert_eq!(Contract::read(empty_component), Err(ContractError::NoHalf("nothing".to_owned())));
    }

    #[test]
    fn another_version_is_refused_by_both_versions() {
        let error = own_interface("nuke:plugin/preprocessor@0.9.0").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("0.9.0") && text.contains("0.1.0"), "{text}");
        assert_eq!(own_interface("nuke:plugin/image@0.1.7"), Ok(Some("image")));
        assert_eq!(own_interface("wasi:io/poll@0.2.6"), Ok(None));
    }

    #[test]
    fn network_and_unknown_imports_are_refused() {
        assert!(matches!(imported_capability("wasi:sockets/tcp@0.2.0"), Err(ContractError::Network(_))));
        assert!(matches!(imported_capability("acme:db/kv"), Err(ContractError::UnknownImport(_))));
        assert!(matches!(
            imported_capability("nuke:plugin/teleport@0.1.0"),
            Err(ContractError::UnknownImport(_))
        ));
        assert_eq!(imported_capability("wasi:cli/stderr@0.2.0"), Ok(None));
    }
}
