//! One look at all folders: the truth, whatever events said.
//!
//! Owns what a scan finds: which versions are to be served, each with its fingerprint. It remembers only what
//! saves work at the next scan, and decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::decisions::Decisions;
use super::fingerprint::{Files, Fingerprint, plugin_reference};
use super::layout::{self, VersionSource};
use crate::config::{ModelEntry, OnDemand, PluginRef};

/// Model and version.
pub(super) type Key = (String, String);

/// One content of one version with its settings, as something to load: two that are equal would load the same.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) source: VersionSource,
    pub(super) fingerprint: Fingerprint,
}

impl Candidate {
    pub(super) fn key(&self) -> Key {
        (self.source.model.clone(), self.source.version.clone())
    }

    /// Whether both are of the same files, whatever their settings.
    pub(super) fn has_files_of(&self, other: &Self) -> bool {
        self.source.path == other.source.path && self.fingerprint == other.fingerprint
    }

    /// Whether it is loaded when somebody asks for it.
    pub(super) fn is_lazy(&self) -> bool {
        self.source.settings.as_ref().is_ok_and(|settings| settings.on_demand.is_lazy())
    }

    /// Whether what is loaded of `other` can be served with the settings of this one, without a reload.
    pub(super) fn has_content_of(&self, other: &Self) -> bool {
        match (&self.source.settings, &other.source.settings) {
            (Ok(settings), Ok(before)) => self.has_files_of(other) && !settings.needs_reload(before),
            _ => false,
        }
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
    /// Of `wanted`, what has a manifest and all the files that it names, in the sizes that it names.
    pub(super) complete: BTreeSet<Key>,
    /// How long it took.
    pub(super) took: Duration,
    /// Folders whose names do not fit, with what is wrong.
    pub(super) passed_over: BTreeMap<PathBuf, &'static str>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Scanner {
    models: PathBuf,
    plugins: PathBuf,
    listed: Vec<ModelEntry>,
    decisions: Arc<Decisions>,
    quiet: Duration,
    /// What models leave open.
    on_demand: OnDemand,
    known: BTreeMap<Key, Known>,
}

/// What was found out about a version when its files looked like this.
#[derive(Debug)]
struct Known {
    files: Files,
    reference: Option<PluginRef>,
    fingerprint: Fingerprint,
    complete: bool,
}

impl Known {
    /// Looks at a version again, and opens files only if something has changed.
    fn read(path: &Path, plugins: &Path, before: Option<Self>, (quiet, now): (Duration, SystemTime)) -> Self {
        let files = Files::read(path);
        let before = before.filter(|before| before.files == files);
        let reference = match &before {
            Some(before) => before.reference.clone(),
            None => plugin_reference(path),
        };
        let fingerprint = Fingerprint::with_plugin(files.clone(), reference.as_ref(), plugins);
        let complete = match before {
            Some(before) if before.fingerprint == fingerprint => before.complete,
            _ => fingerprint.is_complete(path, quiet, now),
        };
        Self { files, reference, fingerprint, complete }
    }
}

impl Scanner {
    pub(super) fn new(
        models: PathBuf,
        plugins: PathBuf,
        listed: Vec<ModelEntry>,
        decisions: Arc<Decisions>,
        quiet: Duration,
    ) -> Self {
        let (on_demand, known) = (OnDemand::default(), BTreeMap::new());
        Self { models, plugins, listed, decisions, quiet, on_demand, known }
    }

    /// With this where a `model.yaml` says nothing.
    #[must_use]
    pub(super) fn with_default(mut self, on_demand: OnDemand) -> Self {
        self.on_demand = on_demand;
        self
    }

    /// Looks at everything.
    ///
    /// # Errors
    /// If the models folder cannot be read; nothing is known then.
    pub(super) fn scan(&mut self) -> Result<Scan, String> {
        let listing = layout::list(&self.models, &self.listed, &self.decisions)?;
        let mut scan = Scan {
            superseded: listing.superseded,
            unreadable: listing.unreadable,
            passed_over: listing.passed_over,
            ..Scan::default()
        };
        let now = SystemTime::now();
        let mut all_known = BTreeMap::new();
        for mut source in listing.wanted {
            if let Ok(settings) = &mut source.settings {
                settings.on_demand = settings.on_demand.or(self.on_demand);
            }
            let key = (source.model.clone(), source.version.clone());
            if let (true, Err(reason)) = (listing.missing.contains(&key), &source.settings) {
                scan.missing.insert(key, reason.clone());
                continue;
            }
            let known = Known::read(&source.path, &self.plugins, self.known.remove(&key), (self.quiet, now));
            if known.fingerprint.has_been_still(self.quiet, now) {
                scan.old.insert(key.clone());
            }
            if known.complete {
                scan.complete.insert(key.clone());
            }
            let fingerprint = known.fingerprint.clone();
            all_known.insert(key.clone(), known);
            scan.wanted.insert(key, Arc::new(Candidate { source, fingerprint }));
        }
        self.known = all_known;
        Ok(scan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Instant;

    #[test]
    fn thousands_of_versions_are_seen_and_only_what_changed_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path().join("models");
        for index in 0..3000 {
            let version = models.join(format!("m{}", index / 3)).join((index % 3 + 1).to_string());
            fs::create_dir_all(&version).unwrap();
            fs::write(version.join("model.onnx"), "x").unwrap();
            fs::write(version.join("bundle.yaml"), "warmup: []\n").unwrap();
        }
        for index in 0..1000 {
            fs::write(models.join(format!("m{index}/model.yaml")), "versions: all\n").unwrap();
        }
        let mut scanner = Scanner::new(
            models.clone(),
            folder.path().join("plugins"),
            Vec::new(),
            std::sync::Arc::default(),
            Duration::ZERO,
        );
        let mut scan = || {
            let began = Instant::now();
            let scan = scanner.scan().unwrap();
            (scan, began.elapsed())
        };
        let ((first, cold), (second, warm)) = (scan(), scan());
        assert_eq!(first.wanted.len(), 3000);
        assert_eq!(first.wanted, second.wanted);
        fs::write(models.join("m77/2/labels.txt"), "a").unwrap();
        let (third, _) = scan();
        let changed =
            third.wanted.iter().filter(|(key, candidate)| first.wanted.get(*key) != Some(*candidate));
        assert_eq!(changed.map(|(key, _)| key.0.as_str()).collect::<Vec<_>>(), ["m77"]);
        println!("3000 versions of 1000 models: first scan {cold:?}, the next one {warm:?}");
    }
}
