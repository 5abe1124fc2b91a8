//! Which contents were found good, kept between starts.
//!
//! Owns a private folder with one small file for each content, named by the hash of all that was handed to
//! the child, of this program and of ONNX Runtime. Only what is good is remembered, and only the parent
//! writes here. Whatever is wrong with the folder costs a validation, never a load.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Once;

use sha2::{Digest as _, Sha256};

use super::wire::Job;
use crate::model::Runtime;
use crate::paths;

/// Contents that are remembered; the oldest are forgotten.
const MOST: usize = 4096;
/// Bytes of one file: a list of warnings.
const LONGEST: u64 = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Verdicts {
    folder: PathBuf,
}

impl Verdicts {
    /// Makes the folder, or looks whether it is private; `None`, after one warning, if it cannot be used.
    pub(super) fn open(folder: &Path) -> Option<Self> {
        static TOLD: Once = Once::new();

        match paths::ensure_private(folder) {
            Ok(()) => Some(Self { folder: folder.to_owned() }),
            Err(error) => {
                TOLD.call_once(|| {
                    tracing::warn!(
                        folder = %folder.display(),
                        error,
                        "versions found good cannot be remembered, and are validated at each load; set \
                         repository.validation.verdicts to a folder of your own, or off"
                    );
                });
                None
            }
        }
    }

    /// The warnings of a content that was found good.
    pub(super) fn find(&self, key: &str) -> Option<Vec<String>> {
        let mut text = String::new();
        File::open(self.folder.join(key)).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Remembers a content as good.
    pub(super) fn remember(&self, key: &str, warnings: &[String]) {
        let written = serde_json::to_vec(warnings)
            .map_err(std::io::Error::other)
            .and_then(|text| self.write(key, &text).and_then(|()| self.forget_oldest()));
        if let Err(error) = written {
            tracing::debug!(folder = %self.folder.display(), %error, "a verdict cannot be kept");
        }
    }

    /// A file appears whole or not at all. Two that write the same write the same bytes.
    fn write(&self, key: &str, text: &[u8]) -> std::io::Result<()> {
        let unfinished = self.folder.join(format!(".{key}.{}.tmp", std::process::id()));
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(text)?;
        fs::rename(&unfinished, self.folder.join(key))
    }

    fn forget_oldest(&self) -> std::io::Result<()> {
        let mut there: Vec<_> = fs::read_dir(&self.folder)?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .collect();
        if there.len() <= MOST {
            return Ok(());
        }
        there.sort_unstable();
        let surplus = there.len() - MOST;
        for (_, path) in there.into_iter().take(surplus) {
            // Somebody else may have been quicker.
            let _gone = fs::remove_file(path);
        }
        Ok(())
    }
}

/// What a verdict depends on, as a file's name.
pub(super) fn key(job: &Job<'_>, runtime: &Runtime) -> String {
    let mut hash = Sha256::new();
    let program = std::env::current_exe().ok();
    for part in [
        env!("CARGO_PKG_VERSION").to_owned(),
        program.as_deref().map(stamp).unwrap_or_default(),
        Runtime::build_info().to_owned(),
        stamp(runtime.library()),
    ] {
        add(&mut hash, part.as_bytes());
    }
    for piece in job.pieces() {
        add(&mut hash, piece);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn add(hash: &mut Sha256, piece: &[u8]) {
    hash.update((piece.len() as u64).to_le_bytes());
    hash.update(piece);
}

/// What changes when a file is replaced. Reading all of it would cost more than a validation.
fn stamp(file: &Path) -> String {
    let Ok(metadata) = fs::metadata(file) else {
        return String::new();
    };
    let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    format!("{} {} {seconds}.{nanoseconds}", file.display(), metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_found_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let verdicts = Verdicts::open(&folder.path().join("made/here")).unwrap();
        assert_eq!(verdicts.find("aa"), None);
        verdicts.remember("aa", &["odd".to_owned()]);
        assert_eq!(verdicts.find("aa"), Some(vec!["odd".to_owned()]));
        fs::write(verdicts.folder.join("bb"), "cut sho").unwrap();
        assert_eq!(verdicts.find("bb"), None);
        assert_eq!(fs::read_dir(&verdicts.folder).unwrap().count(), 2);
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_believed() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Verdicts::open(folder.path()).is_none());
        assert!(Verdicts::open(Path::new("/dev/null/here")).is_none());
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let verdicts = Verdicts::open(folder.path().join("v").as_path()).unwrap();
        for number in 0..=MOST {
            fs::write(verdicts.folder.join(format!("{number:05}")), "[]").unwrap();
        }
        verdicts.remember("new", &[]);
        assert_eq!(fs::read_dir(&verdicts.folder).unwrap().count(), MOST);
        assert!(verdicts.find("new").is_some());
    }
}
