//! What operators and rollouts have decided, kept where it outlives the process.
//!
//! Owns the state folder (`repository.state`): for each model `<model>.traffic.yaml`, the traffic that was set
//! through the admin interface and stands over that of `model.yaml`, and `<model>.traffic.json`, what rollouts
//! and bandits must remember; where nodes share a store also `<model>.shared`, what they had agreed on when this one
//! last knew it. Files are replaced whole. It decides nothing, and no request reads it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::layout::is_name;
use super::publish::{sync_folder, write_synced};
use crate::config::{Labels, ModelConfig, TrafficPolicy};
use crate::traffic::{Moved, Remembered};

const SET: &str = ".traffic.yaml";
const REMEMBERED: &str = ".traffic.json";
const SHARED: &str = ".shared";
/// The folder's name in the models folder, which scans pass over.
const DEFAULT_FOLDER: &str = ".nuke";

/// See the module.
#[derive(Debug, Default)]
pub struct Decisions {
    folder: PathBuf,
    models: Mutex<BTreeMap<String, Decided>>,
    /// One writer at a time; nobody who only asks waits for the disk.
    disk: Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Decided {
    set: Option<String>,
    /// What is being tried out, and is on no disk.
    tried: Option<String>,
    /// That the text does not fit the model any more has been told.
    told: bool,
    remembered: Option<Remembered>,
    /// What nodes had agreed on, as a text.
    shared: Option<String>,
    /// What of that counts in which place; see [`crate::traffic::Traffic::moved`].
    moved: BTreeMap<String, Moved>,
    /// Serves in the place of a version that was given up; on no disk, since the next start tries that one anew.
    stand_in: Option<String>,
}

impl Decisions {
    /// Reads what was decided before. What cannot be read is told in the log and does not count; it stays
    /// where it is.
    pub fn open(models: &Path, folder: Option<&Path>) -> Self {
        let folder = folder.map_or_else(|| models.join(DEFAULT_FOLDER), Path::to_owned);
        let mut decided: BTreeMap<String, Decided> = BTreeMap::new();
        for name in files(&folder) {
            if let Some(model) = name.strip_suffix(SET).filter(|model| is_name(model)) {
                decided.entry(model.to_owned()).or_default().set =
                    told(&folder.join(&name), read(&folder.join(&name)));
            } else if let Some(model) = name.strip_suffix(REMEMBERED).filter(|model| is_name(model)) {
                let remembered = read(&folder.join(&name))
                    .and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
                decided.entry(model.to_owned()).or_default().remembered =
                    told(&folder.join(&name), remembered);
            } else if let Some(model) = name.strip_suffix(SHARED).filter(|model| is_name(model)) {
                decided.entry(model.to_owned()).or_default().shared =
                    told(&folder.join(&name), read(&folder.join(&name)));
            }
        }
        Self { folder, models: Mutex::new(decided), disk: Mutex::default() }
    }

    /// The text of the traffic that was set for a model over its `model.yaml`.
    pub fn traffic(&self, model: &str) -> Option<String> {
        self.lock().get(model)?.set.clone()
    }

    /// A model's settings, with the traffic that was set over theirs. One that cannot be read with the model's
    /// present labels does not count, which is told once.
    pub(super) fn apply(&self, model: &str, settings: ModelConfig) -> ModelConfig {
        let mut models = self.lock();
        let Some(decided) = models.get_mut(model) else {
            return settings;
        };
        let Some(text) = decided.tried.as_ref().or(decided.set.as_ref()) else {
            return settings;
        };
        let read = policy(&format!("{model}{SET}"), text, &settings.labels);
        let before = std::mem::replace(&mut decided.told, read.is_err());
        match read {
            Ok(traffic) => ModelConfig { traffic, ..settings },
            Err(reason) => {
                if !before {
                    tracing::error!(model, %reason, "traffic that was set does not count: that of model.yaml does");
                }
                settings
            }
        }
    }

    /// Has this traffic stand over all else, until it is kept or the try ends.
    pub(super) fn begin_try(&self, model: &str, text: &str) {
        self.lock().entry(model.to_owned()).or_default().tried = Some(text.to_owned());
    }

    /// What was kept counts again.
    pub(super) fn end_try(&self, model: &str) {
        if let Some(decided) = self.lock().get_mut(model) {
            decided.tried = None;
        }
    }

    /// The version that a model's last rollout has promoted.
    pub(super) fn promoted(&self, model: &str) -> Option<String> {
        self.lock().get(model)?.remembered.as_ref()?.promoted().map(str::to_owned)
    }

    /// The version that serves in the place of one that was given up.
    pub(super) fn stand_in(&self, model: &str) -> Option<String> {
        self.lock().get(model)?.stand_in.clone()
    }

    /// Has a version served in the place of one that was given up, or none any more.
    pub(super) fn set_stand_in(&self, model: &str, version: Option<String>) {
        self.lock().entry(model.to_owned()).or_default().stand_in = version;
    }

    /// What is remembered of a model's traffic.
    pub fn remembered(&self, model: &str) -> Option<Remembered> {
        self.lock().get(model)?.remembered.clone()
    }

    /// Sets a model's traffic, on the disk first. Blocks on the disk.
    ///
    /// # Errors
    /// Why it cannot be written; nothing has changed then.
    pub fn set_traffic(&self, model: &str, text: &str) -> Result<(), String> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(&format!("{model}{SET}"), text.as_bytes())?;
        let mut models = self.lock();
        let decided = models.entry(model.to_owned()).or_default();
        (decided.set, decided.told) = (Some(text.to_owned()), false);
        Ok(())
    }

    /// Gives a model's traffic back to its `model.yaml`. Returns whether anything else was set.
    ///
    /// # Errors
    /// Why the file cannot be removed; nothing has changed then.
    pub fn clear_traffic(&self, model: &str) -> Result<bool, String> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.folder.join(format!("{model}{SET}"));
        match std::fs::remove_file(&path) {
            Ok(()) => sync_folder(&self.folder)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(unwritable(&path, &error.to_string())),
        }
        Ok(self.lock().get_mut(model).is_some_and(|decided| decided.set.take().is_some()))
    }

    /// What nodes had agreed on about each model when this one last knew it: the texts that were kept, and nothing
    /// for models of which only this node's own decision is known.
    pub(super) fn all_shared(&self) -> Vec<(String, Option<String>)> {
        let models = self.lock();
        let known = models.iter().filter(|(_, decided)| decided.shared.is_some() || decided.set.is_some());
        known.map(|(model, decided)| (model.clone(), decided.shared.clone())).collect()
    }

    /// Takes over the traffic that was set on another node. It counts even if it cannot be kept. Blocks on the disk.
    ///
    /// # Errors
    /// Why it cannot be kept.
    pub(super) fn adopt_traffic(&self, model: &str, text: Option<&str>) -> Result<(), String> {
        let kept = match text {
            Some(text) => self.set_traffic(model, text),
            None => self.clear_traffic(model).map(|_| ()),
        };
        if kept.is_err() {
            let mut models = self.lock();
            let decided = models.entry(model.to_owned()).or_default();
            (decided.set, decided.told) = (text.map(str::to_owned), false);
        }
        kept
    }

    /// Keeps what nodes have agreed on about a model. Blocks on the disk.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub(super) fn keep_shared(&self, model: &str, text: &str) -> Result<(), String> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lock().get(model).is_some_and(|decided| decided.shared.as_deref() == Some(text)) {
            return Ok(());
        }
        self.write(&format!("{model}{SHARED}"), text.as_bytes())?;
        self.lock().entry(model.to_owned()).or_default().shared = Some(text.to_owned());
        Ok(())
    }

    /// Forgets what nodes had agreed on about a model that none of them has any more, this traffic included. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// Why a file cannot be removed; nothing is forgotten then.
    pub(super) fn forget_shared(&self, model: &str, traffic: Option<&str>) -> Result<(), String> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let is_agreed = traffic.is_some() && self.traffic(model).as_deref() == traffic;
        let files = [Some(SHARED), Some(SET).filter(|_| is_agreed)];
        for ending in files.into_iter().flatten() {
            let path = self.folder.join(format!("{model}{ending}"));
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(unwritable(&path, &error.to_string()));
                }
                _ => {}
            }
        }
        if let Some(decided) = self.lock().get_mut(model) {
            (decided.shared, decided.moved) = (None, BTreeMap::new());
            decided.set.take_if(|_| is_agreed);
        }
        Ok(())
    }

    /// Notes what nodes have agreed on for traffic that comes into one of these places.
    pub(super) fn set_moved(&self, model: &str, moved: BTreeMap<String, Moved>) {
        self.lock().entry(model.to_owned()).or_default().moved = moved;
    }

    /// What nodes have agreed on for a model's traffic in this place.
    pub(super) fn moved(&self, model: &str, place: &str) -> Option<Moved> {
        self.lock().get(model)?.moved.get(place).cloned()
    }

    /// Keeps what is to be remembered of a model's traffic, if it is anything new. Blocks on the disk.
    ///
    /// # Errors
    /// Why it cannot be written; it is tried again the next time.
    pub fn remember(&self, model: &str, remembered: &Remembered) -> Result<(), String> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.remembered(model);
        // Most models have nothing to remember.
        if before.as_ref().unwrap_or(&Remembered::default()) == remembered {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(remembered).map_err(|error| error.to_string())?;
        self.write(&format!("{model}{REMEMBERED}"), text.as_bytes())?;
        self.lock().entry(model.to_owned()).or_default().remembered = Some(remembered.clone());
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Decided>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let refused = |error: std::io::Error| unwritable(&self.folder, &error.to_string());
        // Not those above it: a models folder that is away must not come back as an empty one.
        match std::fs::create_dir(&self.folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(refused(error)),
            _ => {}
        }
        let (path, fresh) = (self.folder.join(name), self.folder.join(format!(".{name}.tmp")));
        // What a process that was killed while writing has left.
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(refused(error)),
            _ => {}
        }
        write_synced(&fresh, bytes).map_err(|error| unwritable(&self.folder, &error))?;
        std::fs::rename(&fresh, &path).map_err(refused)?;
        sync_folder(&self.folder)
    }
}

fn unwritable(path: &Path, reason: &str) -> String {
    format!("{} cannot be written ({reason}); repository.state names the folder for it", path.display())
}

/// A model's traffic from a text, as if it were in a file of this name: the content of `traffic` in
/// `model.yaml`.
///
/// # Errors
/// Everything that is wrong in it.
pub fn policy(name: &str, text: &str, labels: &Labels) -> Result<TrafficPolicy, String> {
    TrafficPolicy::from_text(name, text, labels)
        .map(|loaded| loaded.value)
        .map_err(|problems| problems.to_string())
}

fn files(folder: &Path) -> Vec<String> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::error!(folder = %folder.display(), %error, "the state folder cannot be read: nothing of it counts");
            return Vec::new();
        }
    };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

/// The most that a file may have; ours are far smaller.
const LONGEST: u64 = 1 << 20;

fn read(path: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() || metadata.len() > LONGEST {
        return Err(format!("it is no file of at most {LONGEST} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

fn told<T>(path: &Path, read: Result<T, String>) -> Option<T> {
    read.inspect_err(|reason| {
        tracing::error!(path = %path.display(), %reason, "what was decided cannot be read and does not count");
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_read_again_and_what_cannot_be_written_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let decisions = Decisions::open(folder.path(), None);
        decisions.set_traffic("m", "{strategy: pinned, version: '1'}").unwrap();
        let again = Decisions::open(folder.path(), None);
        assert_eq!(again.traffic("m").as_deref(), Some("{strategy: pinned, version: '1'}"));
        assert!(again.clear_traffic("m").unwrap() && !again.clear_traffic("m").unwrap());
        assert_eq!(Decisions::open(folder.path(), None).traffic("m"), None);

        std::fs::write(folder.path().join("file"), "").unwrap();
        let refused = Decisions::open(folder.path(), Some(&folder.path().join("file")));
        let reason = refused.set_traffic("m", "{strategy: latest}").unwrap_err();
        assert!(reason.contains("repository.state"), "{reason}");
        assert_eq!(refused.traffic("m"), None);
    }

    #[test]
    fn a_models_folder_that_is_away_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path().join("models");
        let decisions = Decisions::open(&models, None);
        assert!(decisions.set_traffic("m", "{strategy: latest}").is_err());
        assert!(!models.exists());
    }

    #[test]
    fn what_could_not_be_remembered_is_tried_again_and_nothing_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let decisions = Decisions::open(folder.path(), Some(&state));
        decisions.remember("m", &Remembered::default()).unwrap();
        assert!(!state.exists(), "there is nothing to remember");
        let text = r#"{"rollout": {"promoted": "2", "attempts": []}}"#;
        let remembered: Remembered = serde_json::from_str(text).unwrap();
        std::fs::write(&state, "in the way").unwrap();
        assert!(decisions.remember("m", &remembered).is_err());
        std::fs::remove_file(&state).unwrap();
        decisions.remember("m", &remembered).unwrap();
        assert_eq!(Decisions::open(folder.path(), Some(&state)).remembered("m"), Some(remembered));
    }
}
