//! What is going to be published: a folder, or one model file.
//!
//! Owns which files belong to it, and the refusal of links and special files: what is published are
//! bytes of plain files. Hidden files are left behind. It never follows a link below the source and
//! never writes.

use std::fs::FileType;
use std::path::{Path, PathBuf};

use super::{Kind, PublishError};
use crate::repository::manifest::{self, Manifest, SIGNATURE_FILE};
use crate::repository::{files, signature, version};

/// One file of it.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    /// Where it lies.
    pub(super) from: PathBuf,
    /// Its path in the version.
    pub(super) path: String,
    /// Its bytes when it was listed.
    pub(super) size: u64,
}

/// See the module. The path is the real one.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    is_file: bool,
    kind: Kind,
}

impl Source {
    pub(super) fn open(path: &Path, kind: Kind) -> Result<Self, PublishError> {
        let usage = |reason: String| PublishError::Usage(format!("{} {reason}", path.display()));
        let real = path.canonicalize().map_err(|error| usage(format!("cannot be read: {error}")))?;
        let metadata = real.metadata().map_err(|error| usage(format!("cannot be read: {error}")))?;
        let extension = Path::new(kind.main_file()).extension();
        if metadata.is_dir() || (metadata.is_file() && real.extension() == extension) {
            return Ok(Self { path: real, is_file: metadata.is_file(), kind });
        }
        let like = kind.main_file();
        Err(usage(format!("is neither a version's folder nor a file like {like}")))
    }

    pub(super) fn is_file(&self) -> bool {
        self.is_file
    }

    /// The name of the source's folder, or of the one above if that is a version's.
    pub(super) fn model_name(&self) -> Result<String, PublishError> {
        if self.is_file {
            return Err(PublishError::Usage("a bare file needs --model NAME".to_owned()));
        }
        let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let found = match name(&self.path) {
            Some(own) if version::is_version(&own) => self.path.parent().and_then(name),
            own => own,
        };
        found.ok_or_else(|| {
            PublishError::Usage(format!("{} names no model; add --model NAME", self.path.display()))
        })
    }

    /// Refuses a models folder inside of the source, which would be copied into itself.
    pub(super) fn refuse_inside(&self, models: &Path) -> Result<(), PublishError> {
        match models.canonicalize() {
            Ok(models) if !self.is_file && models.starts_with(&self.path) => {
                Err(PublishError::Usage(format!(
                    "the models folder {} lies inside of {}; name the version's folder",
                    models.display(),
                    self.path.display()
                )))
            }
            _ => Ok(()),
        }
    }

    /// All files, sorted by path.
    pub(super) fn files(&self) -> Result<Vec<SourceFile>, PublishError> {
        let mut found = Vec::new();
        if self.is_file {
            let size = self.path.metadata().map_err(|error| cannot_read(&self.path, &error))?.len();
            found.push(SourceFile { from: self.path.clone(), path: self.kind.main_file().to_owned(), size });
        } else {
            self.descend(String::new(), 0, &mut found)?;
        }
        found.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(found)
    }

    fn descend(&self, below: String, depth: usize, found: &mut Vec<SourceFile>) -> Result<(), PublishError> {
        let folder = self.path.join(&below);
        if depth > files::DEPTH {
            let reason = format!("{} is more than {} folders deep", folder.display(), files::DEPTH);
            return Err(PublishError::Refused(reason));
        }
        let entries = std::fs::read_dir(&folder).map_err(|error| cannot_read(&folder, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| cannot_read(&folder, &error))?;
            let from = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                let reason = format!("{} has a name that is not UTF-8; rename it", from.display());
                return Err(PublishError::Refused(reason));
            };
            let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
            if name.starts_with('.') || manifest::is_own(&path) {
                continue;
            }
            let metadata = from.symlink_metadata().map_err(|error| cannot_read(&from, &error))?;
            if metadata.is_dir() {
                self.descend(path, depth + 1, found)?;
                continue;
            }
            refuse_special(&from, metadata.file_type())?;
            manifest::check_path(&path).map_err(PublishError::Refused)?;
            found.push(SourceFile { from, path, size: metadata.len() });
            if found.len() > files::COUNT {
                let reason = format!("{} has more than {} files", self.path.display(), files::COUNT);
                return Err(PublishError::Refused(reason));
            }
        }
        Ok(())
    }

    /// If the source has a manifest itself, what was copied has to be what it lists. Then its signature
    /// goes along: the manifest of the same files is the same.
    pub(super) fn published_before(
        &self,
        copied: &Manifest,
        text: &str,
    ) -> Result<Option<String>, PublishError> {
        if self.is_file {
            return Ok(None);
        }
        let Some((listed, bytes)) = Manifest::read(&self.path).map_err(PublishError::Refused)? else {
            return Ok(None);
        };
        if listed != *copied {
            let differs = |(path, sum): (&String, _)| listed.files().get(path) != Some(sum);
            let missing = listed.files().keys().find(|path| !copied.files().contains_key(*path));
            let other = copied.files().iter().find(|file| differs(*file)).map(|(path, _)| path);
            return Err(PublishError::Refused(format!(
                "{} was published before and has been altered since: {} is not as its manifest.json lists it; \
                 publish the original, or remove that manifest.json to publish it as it is",
                self.path.display(),
                missing.or(other).map_or("a file", String::as_str)
            )));
        }
        let path = self.path.join(SIGNATURE_FILE);
        if bytes != text.as_bytes() || !path.is_file() {
            return Ok(None);
        }
        let signature = files::read_at_most(&path, signature::LARGEST).map_err(PublishError::Refused)?;
        Ok(String::from_utf8(signature).ok())
    }
}

fn refuse_special(path: &Path, kind: FileType) -> Result<(), PublishError> {
    if kind.is_file() {
        return Ok(());
    }
    let reason = if kind.is_symlink() {
        "is a link; put a copy of what it names in its place"
    } else {
        "is no plain file; remove it"
    };
    Err(PublishError::Refused(format!("{} {reason}", path.display())))
}

pub(super) fn cannot_read(path: &Path, error: &std::io::Error) -> PublishError {
    PublishError::Refused(format!("{} cannot be read: {error}", path.display()))
}
