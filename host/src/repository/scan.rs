//! One look at all folders: the truth, whatever events said.
//!
//! Owns what a scan finds: which versions are to be served, each with its fingerprint. It remembers only what
//! saves work at the next scan, and decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::fingerprint::{Files, Fingerprint, plugin_reference};
use super::layout::{self, VersionSource};
use crate::config::{ModelEntry, PluginRef};

/// Model and version.
pub(super) type Key = (String, String);

/// One content of one version, as something to load: two that are equal would load the same.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) source: VersionSource,
    pub(super) fingerprint: Fingerprint,
}

impl Candidate {
    pub(super) fn key(&self) -> Key {
        (self.source.model.clone(), self.source.version.clone())
    }
}

/// What one scan found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// What is to be served.
    pub(super) wanted: BTreeMap<Key, Arc<Candidate>>,
    /// What `model.yaml` asks for and has no folder, with the reason in words.
    pub(super) missing: BTreeMap<Key, String>,
    /// What has a folder and is not asked for.
    pub(super) superseded: BTreeSet<Key>,
    /// Models of which nothing is known at the moment.
    pub(super) unreadable: BTreeSet<String>,
    /// Of `wanted`, what was last written long enough ago, by the files' own times.
    pub(super) old: BTreeSet<Key>,
    /// Folders whose names do not fit, with what is wrong.
    pub(super) passed_over: BTreeMap<PathBuf, &'static str>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Scanner {
    models: PathBuf,
    plugins: PathBuf,
    listed: Vec<ModelEntry>,
    quiet: Duration,
    /// The plugin that each version named when its files looked like this.
    references: BTreeMap<Key, (Files, Option<PluginRef>)>,
}

impl Scanner {
    pub(super) fn new(models: PathBuf, plugins: PathBuf, listed: Vec<ModelEntry>, quiet: Duration) -> Self {
        Self { models, plugins, listed, quiet, references: BTreeMap::new() }
    }

    /// Looks at everything.
    ///
    /// # Errors
    /// If the models folder cannot be read; nothing is known then.
    pub(super) fn scan(&mut self) -> Result<Scan, String> {
        let listing = layout::list(&self.models, &self.listed)?;
        let mut scan = Scan {
            superseded: listing.superseded,
            unreadable: listing.unreadable,
            passed_over: listing.passed_over,
            ..Scan::default()
        };
        let now = SystemTime::now();
        let mut references = BTreeMap::new();
        for source in listing.wanted {
            let key = (source.model.clone(), source.version.clone());
            if let (true, Err(reason)) = (listing.missing.contains(&key), &source.settings) {
                scan.missing.insert(key, reason.clone());
                continue;
            }
            let files = Files::read(&source.path);
            let reference = match self.references.remove(&key) {
                Some((before, reference)) if before == files => reference,
                _ => plugin_reference(&source.path),
            };
            let fingerprint = Fingerprint::with_plugin(files.clone(), reference.as_ref(), &self.plugins);
            references.insert(key.clone(), (files, reference));
            if fingerprint.has_been_still(self.quiet, now) {
                scan.old.insert(key.clone());
            }
            scan.wanted.insert(key, Arc::new(Candidate { source, fingerprint }));
        }
        self.references = references;
        Ok(scan)
    }
}
