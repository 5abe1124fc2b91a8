//! File events: that it is time to look at the folders again.
//!
//! Owns the system's watches. An event is a hint and nothing more: what has changed is the scan's to find,
//! and what no event tells of, the next rescan sees.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::config::Watch;

/// Device and inode: a folder that was removed and made again is another one, and needs a new watch.
type Identity = (u64, u64);

type AnyWatcher = Box<dyn Watcher + Send>;

/// See the module.
pub(super) struct Hints {
    watcher: Option<AnyWatcher>,
    roots: Vec<PathBuf>,
    watched: BTreeMap<PathBuf, Identity>,
    has_warned: bool,
}

impl std::fmt::Debug for Hints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hints").field("watched", &self.watched).finish_non_exhaustive()
    }
}

impl Hints {
    /// Watches these folders, with all that is in them, and files; `due` is notified of each event.
    ///
    /// # Errors
    /// If `mode` is `native` and they cannot be watched.
    pub(super) fn start(mode: Watch, roots: Vec<PathBuf>, due: &Arc<Notify>) -> Result<Self, String> {
        let due = Arc::clone(due);
        let notify = move |event: notify::Result<Event>| {
            // An error may have cost events.
            if event.map_or(true, |event| is_change(&event.kind)) {
                due.notify_one();
            }
        };
        Self::start_with(mode, roots, || {
            notify::recommended_watcher(notify).map(|watcher| Box::new(watcher) as AnyWatcher)
        })
    }

    fn start_with(
        mode: Watch,
        roots: Vec<PathBuf>,
        watcher: impl FnOnce() -> notify::Result<AnyWatcher>,
    ) -> Result<Self, String> {
        let mut hints = Self { watcher: None, roots, watched: BTreeMap::new(), has_warned: false };
        if mode == Watch::Poll {
            return Ok(hints);
        }
        let outcome =
            watcher().map(|watcher| hints.watcher = Some(watcher)).and_then(|()| hints.watch_roots());
        match outcome {
            Ok(()) => Ok(hints),
            Err(error) if mode == Watch::Native => {
                Err(format!("the folders cannot be watched: {error}; use repository.watch: auto or poll"))
            }
            Err(error) => {
                hints.warn(&error);
                Ok(hints)
            }
        }
    }

    /// Watches again what has been removed and has come back. To be called before each scan: what happens
    /// after it gives an event, and what happened before it is seen.
    pub(super) fn refresh(&mut self) {
        if let Err(error) = self.watch_roots() {
            self.warn(&error);
        }
    }

    fn watch_roots(&mut self) -> notify::Result<()> {
        let Some(watcher) = &mut self.watcher else {
            return Ok(());
        };
        let mut outcome = Ok(());
        for root in &self.roots {
            let identity = identity(root);
            if identity.as_ref() == self.watched.get(root) {
                continue;
            }
            if self.watched.remove(root).is_some() {
                // It fails when the system has ended the watch by itself.
                let _ended = watcher.unwatch(root);
            }
            if let Some(identity) = identity {
                // Noted even if it fails: it is not tried again before the folder is another one.
                self.watched.insert(root.clone(), identity);
                outcome = outcome.and(watcher.watch(root, RecursiveMode::Recursive));
            }
        }
        outcome
    }

    fn warn(&mut self, error: &notify::Error) {
        if !std::mem::replace(&mut self.has_warned, true) {
            tracing::warn!(
                %error,
                "the folders cannot be watched: changes are seen at the next rescan (repository.rescan). If a \
                 limit is named, raise fs.inotify.max_user_watches or fs.inotify.max_user_instances; \
                 repository.watch: poll silences this"
            );
        }
    }
}

fn identity(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Reading changes nothing, and the host's own scans and loads read.
fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(access) => *access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::{Config, ErrorKind, EventHandler, WatcherKind};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// A system whose watches are used up.
    struct Exhausted(Arc<AtomicUsize>);

    impl Watcher for Exhausted {
        fn new<F: EventHandler>(_: F, _: Config) -> notify::Result<Self> {
            Ok(Self(Arc::default()))
        }

        fn watch(&mut self, _: &Path, _: RecursiveMode) -> notify::Result<()> {
            self.0.fetch_add(1, Relaxed);
            Err(notify::Error::new(ErrorKind::MaxFilesWatch))
        }

        fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
            Err(notify::Error::new(ErrorKind::WatchNotFound))
        }

        fn kind() -> WatcherKind {
            WatcherKind::NullWatcher
        }
    }

    fn start(mode: Watch, root: &Path, tried: &Arc<AtomicUsize>) -> Result<Hints, String> {
        let watcher = Exhausted(Arc::clone(tried));
        Hints::start_with(mode, vec![root.to_owned()], || Ok(Box::new(watcher)))
    }

    #[test]
    fn without_watches_native_does_not_start_and_auto_goes_on_by_rescans() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("models");
        std::fs::create_dir(&root).unwrap();
        let tried = Arc::default();
        let refused = start(Watch::Native, &root, &tried).unwrap_err();
        assert!(refused.contains("cannot be watched") && refused.contains("auto or poll"), "{refused}");
        let mut hints = start(Watch::Auto, &root, &tried).unwrap();
        assert!(hints.has_warned);
        // It does not ask the system again at each scan, but for a folder that is another one.
        hints.refresh();
        assert_eq!(tried.load(Relaxed), 2);
        std::fs::rename(&root, folder.path().join("before")).unwrap();
        hints.refresh();
        std::fs::create_dir(&root).unwrap();
        hints.refresh();
        assert_eq!(tried.load(Relaxed), 3);
        assert!(start(Watch::Poll, &root, &tried).unwrap().watcher.is_none());
        assert_eq!(tried.load(Relaxed), 3);
        let none = Hints::start_with(Watch::Native, vec![root], || Err(notify::Error::generic("no inotify")));
        assert!(none.unwrap_err().contains("no inotify"));
    }
}
