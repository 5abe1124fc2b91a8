//! Everything that a version consists of, each file read once.
//!
//! Owns the bytes: those that are validated are those that are used. It never opens a model or a plugin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::checked::{BUNDLE_FILE, CheckedFolder, PLUGIN_FILE};
use super::files;
use super::layout::VersionSource;
use super::load::{LoaderOptions, latest_matching};
use super::signature::TrustedKeys;
use crate::config::{BundleConfig, Capability, PluginRef};
use crate::model::{Labels, ModelError, ModelSource, OutputLabels};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Content {
    /// The model's name.
    pub(super) model: String,
    /// The version's name.
    pub(super) version: String,
    /// The model's file, for messages.
    pub(super) model_path: String,
    /// The model with its weights.
    pub(super) source: ModelSource,
    /// Its plugin.
    pub(super) plugin: Option<PluginContent>,
    /// What the bundle declares.
    pub(super) capabilities: Vec<Capability>,
    /// The bundle's settings, in the file's order.
    pub(super) settings: Vec<(String, String)>,
    /// The bundle's other files: each one's size and, if it was small enough to keep, its bytes; by path.
    pub(super) files: BTreeMap<String, (u64, Option<Bytes>)>,
    /// What is sent through the version before it serves, by path.
    pub(super) samples: Vec<(String, Bytes)>,
    /// What elements of outputs stand for.
    pub(super) labels: OutputLabels,
}

/// A plugin, not looked into.
#[derive(Clone, Debug)]
pub(super) struct PluginContent {
    /// Its name, for logs and errors.
    pub(super) name: String,
    /// The component's bytes.
    pub(super) component: Bytes,
}

impl Content {
    /// Reads a version's folder, or a bare model file.
    ///
    /// # Errors
    /// The reason, for the operator: of the model and of the plugin, if it is both.
    pub(super) fn read(source: &VersionSource, options: &LoaderOptions) -> Result<Self, String> {
        let bundle = Bundle::read(source, options)?;
        let refused = |error: ModelError| format!("{}: {error}", bundle.model_path.display());
        let model = ModelSource::new(bundle.model.clone(), |location| bundle.read_beside_model(location));
        let (model, plugin) = match (model.map_err(refused), bundle.read_plugin(options)) {
            (Ok(model), Ok(plugin)) => (model, plugin),
            (Err(model), Err(plugin)) => return Err(format!("{model}\n{plugin}")),
            (Err(reason), Ok(_)) | (Ok(_), Err(reason)) => return Err(reason),
        };
        Ok(Self {
            model: source.model.clone(),
            version: source.version.clone(),
            model_path: bundle.model_path.display().to_string(),
            source: model,
            plugin,
            capabilities: bundle.config.capabilities,
            settings: bundle.config.settings,
            files: bundle.files,
            samples: bundle.samples,
            labels: bundle.labels,
        })
    }
}

impl Content {
    /// A hash in hexadecimal of all that an answer depends on: model, weights, plugin, capabilities, settings and
    /// files. Pieces have their length before them, and lists the number of what is in them, so that no two contents
    /// are hashed alike.
    pub(super) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |piece: &[u8]| {
            hash.update((piece.len() as u64).to_le_bytes());
            hash.update(piece);
        };
        let count = |length: usize| (length as u64).to_le_bytes();
        add(self.source.model());
        add(&count(self.source.external().len()));
        for (location, bytes) in self.source.external() {
            add(location.as_bytes());
            add(bytes);
        }
        add(&[u8::from(self.plugin.is_some())]);
        add(self.plugin.as_ref().map_or(&[], |plugin| &plugin.component));
        add(&count(self.capabilities.len()));
        self.capabilities.iter().for_each(|capability| add(capability.as_str().as_bytes()));
        add(&count(self.settings.len()));
        for (name, value) in &self.settings {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        add(&count(self.files.len()));
        for (path, (size, bytes)) in &self.files {
            add(path.as_bytes());
            add(&size.to_le_bytes());
            add(&[u8::from(bytes.is_some())]);
            add(bytes.as_deref().unwrap_or_default());
        }
        add(&count(self.labels.len()));
        for (output, labels) in &self.labels {
            add(output.as_bytes());
            add(&count(labels.len()));
            for position in 0..labels.len() {
                add(labels.get(position).unwrap_or_default().as_bytes());
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A version's folder while it is being read.
struct Bundle {
    config: BundleConfig,
    folder: PathBuf,
    checked: Option<CheckedFolder>,
    model_path: PathBuf,
    model: Bytes,
    files: BTreeMap<String, (u64, Option<Bytes>)>,
    samples: Vec<(String, Bytes)>,
    labels: OutputLabels,
}

impl Bundle {
    fn read(source: &VersionSource, options: &LoaderOptions) -> Result<Self, String> {
        if source.path.is_file() {
            return Self::bare(&source.path, &options.keys);
        }
        let folder = source.path.as_path();
        let checked = CheckedFolder::open(folder, &options.keys)?;
        let config = checked.bundle_config()?;
        let model = checked.read(config.model.as_path())?;
        let mut skip = vec![Path::new(BUNDLE_FILE), config.model.as_path()];
        if let Some(PluginRef::File(path)) = &config.plugin {
            skip.push(path.as_path());
        }
        let files = checked.bundle_files(&skip, options.files)?;
        let sample = |path: &crate::config::BundlePath| {
            Ok::<_, String>((path.to_string(), checked.read(path.as_path())?))
        };
        let samples = config.warmup.iter().map(sample).collect::<Result<_, _>>()?;
        let labels = config.labels.iter().map(|(output, path)| {
            let labels = checked.read(path.as_path()).and_then(|bytes| {
                Labels::parse(&bytes)
                    .map_err(|reason| format!("{}: {reason}", folder.join(path.as_path()).display()))
            });
            labels.map(|labels| (output.clone(), labels))
        });
        let labels = labels.collect::<Result<_, _>>()?;
        let model_path = folder.join(config.model.as_path());
        Ok(Self {
            folder: folder.to_owned(),
            model_path,
            model,
            files,
            samples,
            labels,
            config,
            checked: Some(checked),
        })
    }

    /// A model file without a folder of its own, which can have neither a manifest nor a signature.
    fn bare(path: &Path, keys: &TrustedKeys) -> Result<Self, String> {
        if keys.required() {
            return Err(format!(
                "{} is a bare file, which cannot be signed, and repository.trusted_keys asks for signatures; \
                 publish it with --sign",
                path.display()
            ));
        }
        Ok(Self {
            config: BundleConfig::default(),
            folder: path.parent().map(Path::to_owned).unwrap_or_default(),
            checked: None,
            model_path: path.to_owned(),
            model: files::read(path)?,
            files: BTreeMap::new(),
            samples: Vec::new(),
            labels: OutputLabels::new(),
        })
    }

    /// Reads a file of the version's folder, as it was published.
    fn read_within(&self, relative: &Path) -> Result<Bytes, String> {
        match &self.checked {
            Some(checked) => checked.read(relative),
            None => files::read_within(&self.folder, relative),
        }
    }

    /// Reads a file that the model names, relative to the model's own folder as ONNX has it, from
    /// within the version's folder.
    fn read_beside_model(&self, location: &str) -> Result<Bytes, String> {
        let relative = Path::new(location);
        if !relative.components().all(|part| matches!(part, std::path::Component::Normal(_))) {
            return Err("it must be a path inside the version's folder, without '..'".to_owned());
        }
        let beside = self.model_path.parent().unwrap_or(&self.folder).join(relative);
        let relative = beside.strip_prefix(&self.folder).map_err(|error| error.to_string())?;
        self.read_within(relative)
    }

    fn read_plugin(&self, options: &LoaderOptions) -> Result<Option<PluginContent>, String> {
        let Some(reference) = &self.config.plugin else {
            return Ok(None);
        };
        let (name, component) = match reference {
            PluginRef::File(path) => (path.to_string(), self.read_within(path.as_path())?),
            PluginRef::Named { name, versions } => {
                let folder = options.plugins.join(name);
                let version = latest_matching(&folder, versions)?;
                files::real_path_within(&folder, Path::new(&version))?;
                let folder = CheckedFolder::open(&folder.join(&version), &options.keys)?;
                (name.clone(), folder.read(Path::new(PLUGIN_FILE))?)
            }
        };
        Ok(Some(PluginContent { name, component }))
    }
}
