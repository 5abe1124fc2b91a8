//! Capability `bundle`: the version's read-only files and settings.
//!
//! Owns what was read when the version was loaded. It never touches a disk.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::plugin::bindings::nuke::plugin::bundle::{FileError, FileInfo, Host, Identity};
use crate::plugin::instance::InstanceState;

/// Whom a plugin serves, and the files and settings it may see.
#[derive(Clone, Debug, Default)]
pub struct BundleContext {
    /// The model's name.
    pub model: String,
    /// The version's name.
    pub version: String,
    /// The plugin's name, for logs and errors.
    pub plugin: String,
    /// Each file's size and, if it was small enough to keep, its bytes; by path.
    pub files: BTreeMap<String, (u64, Option<Bytes>)>,
    /// The bundle's settings, in the file's order.
    pub settings: Vec<(String, String)>,
}

impl Host for InstanceState {
    fn whoami(&mut self) -> wasmtime::Result<Identity> {
        Ok(Identity { model: self.bundle.model.clone(), version: self.bundle.version.clone() })
    }

    fn files(&mut self) -> wasmtime::Result<Vec<FileInfo>> {
        let info = |(path, (size, _)): (&String, &(u64, _))| FileInfo { path: path.clone(), size: *size };
        Ok(self.bundle.files.iter().map(info).collect())
    }

    fn read(&mut self, path: String) -> wasmtime::Result<Result<Vec<u8>, FileError>> {
        Ok(match self.bundle.files.get(&path) {
            None => Err(FileError::NotFound),
            Some((_, None)) => Err(FileError::TooLarge),
            Some((_, Some(bytes))) => Ok(bytes.to_vec()),
        })
    }

    fn settings(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.bundle.settings.clone())
    }
}
