//! Where a configuration is read from, and in which order the sources count: flag, then
//! environment variable, then file, then default.

use std::path::{Path, PathBuf};

use super::bundle::{self, BundleConfig};
use super::file;
use super::later;
use super::model::{self, ModelConfig};
use super::overlay::{self, CONFIG_VARIABLE, Override};
use super::path::KeyPath;
use super::problem::{Problem, Problems};
use super::reader::Reader;
use super::report::Report;
use super::section::Section;
use super::server::ServerConfig;
use super::server_decode::{self, Machine};
use super::traffic::{Labels, TrafficPolicy};
use super::traffic_decode;
use super::tree::Node;

/// The file that is read if none is named and it is there.
const DEFAULT_FILE: &str = "config.yaml";

/// A configuration and where each of its values came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<T> {
    /// The configuration.
    pub value: T,
    /// Each value in effect with its source.
    pub report: Report,
    /// The file it was read from; `None` if there was none.
    pub file: Option<PathBuf>,
}

/// The variables of this process, as [`ServerConfig::load`] takes them. What is not Unicode is
/// replaced, so that it is refused with its name rather than passed over.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (lossy(name), lossy(value)))
}

impl Default for ServerConfig {
    /// What is in effect without a file, variables and flags, on this machine.
    fn default() -> Self {
        let machine = Machine::detect(&environment().collect::<Vec<_>>());
        let mut reader = Reader::new(DEFAULT_FILE, later::SERVER, Vec::new());
        server_decode::decode(&mut Section::open(&mut reader, KeyPath::default(), None), &machine)
    }
}

impl ServerConfig {
    /// Reads the server's configuration. `file` is what `--config` named; without it the variable
    /// `NUKE_CONFIG` names one, and without that `config.yaml` in the working folder is read if it
    /// exists. Relative paths in the file are relative to its folder, all others to the working
    /// folder.
    ///
    /// # Errors
    /// Everything that is wrong in the file, the variables and the flags.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[Override],
    ) -> Result<Loaded<Self>, Problems> {
        let environment: Vec<(String, String)> = environment.into_iter().collect();
        let file = choose_file(file, &environment, Path::new(DEFAULT_FILE).exists());
        let mut problems = Vec::new();
        let root = file.as_ref().map_or_else(|| Some(Node::empty()), |path| file::read(path, &mut problems));
        decode_server(root, file, &environment, flags, problems)
    }

    /// Reads the server's configuration from a text, as if it were in a file of this name.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub fn from_text(name: &str, text: &str) -> Result<Loaded<Self>, Problems> {
        Self::from_sources(name, text, &[], &[])
    }

    /// Reads flags alone, over the defaults.
    ///
    /// # Errors
    /// Everything that is wrong in them.
    pub fn from_flags(flags: &[Override]) -> Result<Loaded<Self>, Problems> {
        decode_server(Some(Node::empty()), None, &[], flags, Vec::new())
    }

    /// As [`ServerConfig::from_text`], with variables and flags over it.
    pub(super) fn from_sources(
        name: &str,
        text: &str,
        environment: &[(String, String)],
        flags: &[Override],
    ) -> Result<Loaded<Self>, Problems> {
        let mut problems = Vec::new();
        let root = file::decode(text.as_bytes(), name, &mut problems);
        decode_server(root, Some(name.into()), environment, flags, problems)
    }
}

impl ModelConfig {
    /// Reads a `model.yaml`.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub fn load(path: &Path) -> Result<Loaded<Self>, Problems> {
        let mut problems = Vec::new();
        let root = file::read(path, &mut problems);
        Self::decode(root, &path.display().to_string(), problems)
    }

    /// Reads a text, as if it were in a file of this name.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub fn from_text(name: &str, text: &str) -> Result<Loaded<Self>, Problems> {
        let mut problems = Vec::new();
        let root = file::decode(text.as_bytes(), name, &mut problems);
        Self::decode(root, name, problems)
    }

    fn decode(root: Option<Node>, name: &str, problems: Vec<Problem>) -> Result<Loaded<Self>, Problems> {
        let reader = Reader::new(name, later::MODEL, problems);
        let (value, report) = reader.decode(root.unwrap_or_else(Node::empty), model::decode)?;
        Ok(Loaded { value, report, file: Some(name.into()) })
    }
}

impl TrafficPolicy {
    /// Reads a policy by itself, what stands under `traffic` in `model.yaml`, from a text in YAML or JSON,
    /// as if it were in a file of this name. It may use these labels.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub fn from_text(name: &str, text: &str, labels: &Labels) -> Result<Loaded<Self>, Problems> {
        let mut problems = Vec::new();
        let root = file::decode(text.as_bytes(), name, &mut problems).unwrap_or_else(Node::empty);
        let reader = Reader::new(name, &[], problems);
        let (value, report) = reader.decode(root, |section| traffic_decode::policy(section, labels))?;
        Ok(Loaded { value, report, file: Some(name.into()) })
    }
}

impl BundleConfig {
    /// Reads a text, as if it were in a file of this name.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub fn from_text(name: &str, text: &str) -> Result<Loaded<Self>, Problems> {
        Self::from_bytes(name, text.as_bytes())
    }

    /// Reads the content of a file of this name.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Loaded<Self>, Problems> {
        let mut problems = Vec::new();
        let root = file::decode(bytes, name, &mut problems);
        Self::decode(root, name, problems)
    }

    fn decode(root: Option<Node>, name: &str, problems: Vec<Problem>) -> Result<Loaded<Self>, Problems> {
        let reader = Reader::new(name, later::BUNDLE, problems);
        let (value, report) = reader.decode(root.unwrap_or_else(Node::empty), bundle::decode)?;
        Ok(Loaded { value, report, file: Some(name.into()) })
    }
}

fn choose_file(
    flag: Option<&Path>,
    environment: &[(String, String)],
    default_exists: bool,
) -> Option<PathBuf> {
    if let Some(path) = flag {
        return Some(path.to_owned());
    }
    let named = environment.iter().find(|(name, value)| name == CONFIG_VARIABLE && !value.is_empty());
    match named {
        Some((_, path)) => Some(path.into()),
        None => default_exists.then(|| DEFAULT_FILE.into()),
    }
}

/// Decodes the file's tree, with the variables and flags over it. A file that cannot be used does
/// not keep the rest from being judged.
fn decode_server(
    root: Option<Node>,
    file: Option<PathBuf>,
    environment: &[(String, String)],
    flags: &[Override],
    mut problems: Vec<Problem>,
) -> Result<Loaded<ServerConfig>, Problems> {
    let mut root = root.unwrap_or_else(Node::empty);
    let settings: Vec<_> = environment.iter().filter(|pair| overlay::is_setting(pair)).cloned().collect();
    overlay::variables(&mut root, &settings, &mut problems);
    overlay::flags(&mut root, flags, &mut problems);
    let machine = Machine::detect(environment);
    let name = file.as_ref().map_or_else(|| DEFAULT_FILE.to_owned(), |path| path.display().to_string());
    let reader = Reader::new(&name, later::SERVER, problems);
    let (value, report) = reader.decode(root, |section| server_decode::decode(section, &machine))?;
    Ok(Loaded { value, report, file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_named_closest_is_read() {
        let environment = |value: &str| vec![(CONFIG_VARIABLE.to_owned(), value.to_owned())];
        let chosen = |flag: Option<&str>, value: &str, exists| {
            choose_file(flag.map(Path::new), &environment(value), exists)
                .map(|path| path.display().to_string())
        };
        assert_eq!(chosen(Some("a"), "b", true).as_deref(), Some("a"));
        assert_eq!(chosen(None, "b", true).as_deref(), Some("b"));
        assert_eq!(chosen(None, "", true).as_deref(), Some("config.yaml"));
        assert_eq!(chosen(None, "", false), None);
    }
}
