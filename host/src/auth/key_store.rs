//! The file of API keys as `nuke keys` changes it, and the note of when keys were used.
//!
//! Owns that a change is whole or not at all, and that of several who change it each starts from what the other has left:
//! a lock on a file beside it, then a new file in its place. Beside it also lies `<file>.used`, which servers write.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use super::watch::read;
use crate::config::{ApiKeyFile, MAX_KEY_FILE, Problems};
use crate::timestamp::{parse_timestamp, timestamp};

/// Why the file cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// The system does not let it be.
    #[error("{0}")]
    Unreadable(String),
    /// It has another form.
    #[error("{0}")]
    Malformed(Problems),
    /// Redis did not say whether it has taken a change.
    #[error(
        "{reason}; it is not known whether the change was made, of {}: 'nuke keys list' shows it, and 'nuke keys \
         revoke ID' ends a new key that is there, whose secret nobody has seen",
        .ids.join(", ")
    )]
    Undecided {
        /// What went wrong.
        reason: String,
        /// The keys that were to be made or changed.
        ids: Vec<String>,
    },
}

/// A file of API keys.
#[derive(Clone, Debug)]
pub struct KeyStore(PathBuf);

impl KeyStore {
    /// The file at this path, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The file's keys.
    ///
    /// # Errors
    /// See [`KeyStoreError`]; a missing file is one.
    pub fn read(&self) -> Result<ApiKeyFile, KeyStoreError> {
        let bytes = read(&self.0, MAX_KEY_FILE).map_err(KeyStoreError::Unreadable)?;
        ApiKeyFile::from_bytes(&self.0.display().to_string(), &bytes).map_err(KeyStoreError::Malformed)
    }

    /// Changes the file. `change` gets what is there, nothing if there is no file, and says whether it is to be kept.
    ///
    /// # Errors
    /// See [`KeyStoreError`]; the file is as it was then.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut ApiKeyFile) -> Result<T, String>,
    ) -> Result<T, KeyStoreError> {
        let cannot = |error: std::io::Error| {
            KeyStoreError::Unreadable(format!("{}: cannot be written: {error}", self.0.display()))
        };
        let lock = private().create(true).append(true).open(self.beside(".lock")).map_err(cannot)?;
        // So that the file's owner can lock it the next time; who is not allowed to give it away has not made it.
        if let Ok(keys) = std::fs::metadata(&self.0) {
            let _ = keep_owner(&lock, &keys);
        }
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| cannot(error.into()))?;
        let mut keys = match std::fs::symlink_metadata(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => ApiKeyFile::default(),
            _ => self.read()?,
        };
        let done = change(&mut keys).map_err(KeyStoreError::Unreadable)?;
        replace(&self.0, keys.to_yaml().as_bytes()).map_err(cannot)?;
        Ok(done)
    }

    fn beside(&self, ending: &str) -> PathBuf {
        beside(&self.0, ending)
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Options for a file that its owner alone can read.
fn private() -> std::fs::OpenOptions {
    let mut options = File::options();
    options.mode(0o600);
    options
}

/// Puts new content in a file's place: on the disk first, then under its name. A link is followed, so that it stays one.
fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let next = beside(&target, &format!(".{}.next", std::process::id()));
    let written = private().create(true).truncate(true).write(true).open(&next).and_then(|mut file| {
        file.write_all(content)?;
        if let Ok(before) = std::fs::metadata(&target) {
            keep_owner(&file, &before)?;
            file.set_permissions(before.permissions())?;
        }
        file.sync_all()
    });
    let placed = written.and_then(|()| std::fs::rename(&next, &target));
    if placed.is_err() {
        let _ = std::fs::remove_file(&next);
        return placed;
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Gives a file to whom that of before belongs: a server that runs as somebody else has to read it on.
fn keep_owner(file: &File, before: &Metadata) -> std::io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) == (before.uid(), before.gid()) {
        return Ok(());
    }
    fchown(file, Some(before.uid()), Some(before.gid())).map_err(|error| {
        let (user, group) = (before.uid(), before.gid());
        let message = format!(
            "it belongs to user {user}, group {group}, and cannot be kept theirs ({error}); run this as that user"
        );
        std::io::Error::new(error.kind(), message)
    })
}

/// When each key was last used, by its id.
pub type Used = BTreeMap<String, SystemTime>;

/// What servers have noted of the use of a file's keys. What cannot be read was never noted.
pub fn last_used(path: &Path) -> Used {
    let Ok(bytes) = read(&beside(path, ".used"), MAX_KEY_FILE) else {
        return Used::new();
    };
    let noted: BTreeMap<String, String> = serde_json::from_slice(&bytes).unwrap_or_default();
    noted.into_iter().filter_map(|(id, at)| Some((id, parse_timestamp(&at)?))).collect()
}

/// Adds what this server has seen of the use of keys; the later time counts.
pub(super) fn note_used(path: &Path, seen: &Used) -> std::io::Result<()> {
    let mut all = last_used(path);
    for (id, at) in seen {
        let noted = all.entry(id.clone()).or_insert(SystemTime::UNIX_EPOCH);
        *noted = (*noted).max(*at);
    }
    // Those of keys that are long gone go, too.
    let old = SystemTime::now().checked_sub(Duration::from_secs(400 * 24 * 3600));
    let all: BTreeMap<_, _> = all
        .into_iter()
        .filter(|(_, at)| old.is_none_or(|old| *at > old))
        .map(|(id, at)| (id, timestamp(at)))
        .collect();
    let text = serde_json::to_vec(&all)?;
    replace(&beside(path, ".used"), &text)
}

#[cfg(test)]
mod tests {
    use super::super::api_key::NewKey;
    use super::*;

    fn add(store: &KeyStore, name: &str) -> NewKey {
        let key = NewKey::make(name, Vec::new(), SystemTime::now(), None).unwrap();
        let entry = key.entry.clone();
        store
            .change(|file| {
                file.keys.push(entry);
                Ok(())
            })
            .unwrap();
        key
    }

    #[test]
    fn of_many_who_change_at_once_nobody_loses_anything() {
        let folder = tempfile::tempdir().unwrap();
        let store = KeyStore::new(folder.path().join("keys.yaml"));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    (0..10).for_each(|number| drop(add(store, &format!("{thread}-{number}"))))
                });
            }
        });
        assert_eq!(store.read().unwrap().keys.len(), 40);
        let left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn a_change_that_is_refused_or_a_file_that_is_broken_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.yaml");
        let store = KeyStore::new(&path);
        add(&store, "a");
        let before = std::fs::read(&path).unwrap();
        assert!(store.change(|_| Err::<(), _>("no".to_owned())).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), before);
        std::fs::write(&path, "keys: [").unwrap();
        assert!(matches!(store.change(|_| Ok(())), Err(KeyStoreError::Malformed(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"keys: [");
    }

    #[test]
    fn only_its_owner_can_read_it_and_links_stay() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("real.yaml"), folder.path().join("keys.yaml"));
        add(&KeyStore::new(&file), "a");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        std::os::unix::fs::symlink(&file, &link).unwrap();
        add(&KeyStore::new(&link), "b");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(KeyStore::new(&file).read().unwrap().keys.len(), 2);
    }

    /// Needs the right to give files away, which root has: without it there is nothing that could be lost.
    #[test]
    fn whoever_changes_it_the_file_stays_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.yaml");
        let store = KeyStore::new(&path);
        add(&store, "a");
        let owner = |path: &Path| std::fs::metadata(path).map(|file| (file.uid(), file.gid())).unwrap();
        if std::os::unix::fs::chown(&path, Some(65534), Some(65533)).is_err() {
            return;
        }
        add(&store, "b");
        assert_eq!(owner(&path), (65534, 65533));
        assert_eq!(owner(&beside(&path, ".lock")), (65534, 65533));
        assert_eq!(store.read().unwrap().keys.len(), 2);
    }

    #[test]
    fn use_is_noted_and_the_later_time_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.yaml");
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let seen = |id: &str, seconds| Used::from([(id.to_owned(), at(seconds))]);
        let recent = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        note_used(&path, &seen("a", recent)).unwrap();
        note_used(&path, &seen("b", recent + 5)).unwrap();
        note_used(&path, &seen("a", recent - 5)).unwrap();
        assert_eq!(last_used(&path), Used::from([("a".into(), at(recent)), ("b".into(), at(recent + 5))]));
        std::fs::write(beside(&path, ".used"), "garbage").unwrap();
        assert!(last_used(&path).is_empty());
    }
}
