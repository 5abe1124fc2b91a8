//! From a version's folder to a generation that is ready to serve.
//!
//! Owns the order: read the bundle, read each file once, open the sessions, load the plugin, warm up.
//! Each failure is a reason that names the file and the remedy. It runs on a blocking thread, never on
//! the request path.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::checked::{BUNDLE_FILE, CheckedFolder, PLUGIN_FILE};
use super::layout::VersionSource;
use super::signature::TrustedKeys;
use super::status::LoadStage;
use super::{files, warmup};
use crate::config::{BundleConfig, Capability, PluginRef};
use crate::model::{ModelError, ModelSession, ModelSource, Runtime};
use crate::pipeline::{Generation, GenerationParts};
use crate::plugin::{BundleContext, Plugin, PluginEngine, PluginLimits, PluginSource};
use crate::telemetry::Metrics;

/// What holds for every version.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Where plugins lie that bundles name by `name@versions`.
    pub plugins: PathBuf,
    /// What a plugin may use.
    pub limits: PluginLimits,
    /// What the operator allows plugins to import.
    pub allow: Vec<Capability>,
    /// Bytes of a version's files that are kept for its plugin.
    pub files: usize,
    /// Whose signatures versions and shared plugins need; none, and they need none.
    pub keys: TrustedKeys,
}

/// See the module.
#[derive(Debug)]
pub struct Loader {
    /// Runs the models.
    pub runtime: Arc<Runtime>,
    /// Runs the plugins.
    pub engine: Arc<PluginEngine>,
    /// Where generations count.
    pub metrics: Arc<Metrics>,
    /// What holds for every version.
    pub options: LoaderOptions,
}

impl Loader {
    /// Loads and warms up one version, and tells of each stage as it begins. Takes seconds: call it on a
    /// blocking thread of a runtime.
    ///
    /// # Errors
    /// The reason, for the operator.
    pub fn load(&self, source: &VersionSource, progress: &dyn Fn(LoadStage)) -> Result<Generation, String> {
        let settings = source.settings.clone()?;
        progress(LoadStage::Validating);
        let bundle = Bundle::read(source, &self.options)?;
        progress(LoadStage::Loading);
        let sessions = self.open_sessions(&bundle, settings.workers.max);
        let (mut sessions, plugin) = match (sessions, self.load_plugin(source, &bundle)) {
            (Ok(sessions), Ok(plugin)) => (sessions, plugin),
            (Err(model), Err(plugin)) => return Err(format!("{model}\n{plugin}")),
            (Err(reason), Ok(_)) | (Ok(_), Err(reason)) => return Err(reason),
        };
        let signature = sessions.first().map(|session| Arc::clone(session.signature()));
        let signature = signature.ok_or("workers.max is 0: a model needs at least one worker")?;
        progress(LoadStage::Warming);
        let samples = warmup::read_samples(&bundle.samples, plugin.as_ref(), &signature, &source.model)?;
        warmup::warm_up_sessions(&mut sessions, &settings.warmup.batch_sizes, &samples)?;
        let metrics =
            self.metrics.generation(&source.model, &source.version, plugin.as_ref().map(Plugin::name));
        let generation = Generation::start(GenerationParts {
            model: source.model.clone(),
            version: source.version.clone(),
            digest: bundle.digest(),
            signature,
            sessions,
            settings,
            metrics,
            plugin,
        });
        let generation = generation.map_err(cannot_start)?;
        match warmup::warm_up(&generation, &samples) {
            Ok(()) => Ok(generation),
            Err(reason) => {
                generation.free();
                Err(reason)
            }
        }
    }

    /// Opens and warms up the sessions that `serving` lacks for the settings of `source`. Whether the files
    /// are still those that serve is the caller's to find out. Takes seconds, as [`Loader::load`].
    ///
    /// # Errors
    /// The reason, for the operator.
    pub fn open_more(
        &self,
        source: &VersionSource,
        serving: &Generation,
    ) -> Result<Vec<ModelSession>, String> {
        let settings = source.settings.as_ref().map_err(String::clone)?;
        let count = settings.workers.max.saturating_sub(serving.scheduler().workers().0);
        if count == 0 {
            return Ok(Vec::new());
        }
        let bundle = Bundle::read(source, &self.options)?;
        let mut sessions = self.open_sessions(&bundle, count)?;
        let samples =
            warmup::read_samples(&bundle.samples, serving.plugin(), serving.signature(), &source.model)?;
        warmup::warm_up_sessions(&mut sessions, &settings.warmup.batch_sizes, &samples)?;
        Ok(sessions)
    }

    fn open_sessions(&self, bundle: &Bundle, count: usize) -> Result<Vec<ModelSession>, String> {
        let refused = |error: ModelError| format!("{}: {error}", bundle.model_path.display());
        let source = ModelSource::new(bundle.model.clone(), |location| bundle.read_beside_model(location));
        let source = source.map_err(refused)?;
        (0..count).map(|_| ModelSession::open(&self.runtime, &source).map_err(refused)).collect()
    }

    fn load_plugin(&self, source: &VersionSource, bundle: &Bundle) -> Result<Option<Plugin>, String> {
        let Some(reference) = &bundle.config.plugin else {
            return Ok(None);
        };
        let component = match reference {
            PluginRef::File(path) => bundle.read_within(path.as_path())?,
            PluginRef::Named { name, versions } => {
                let folder = self.options.plugins.join(name);
                let version = latest_matching(&folder, versions)?;
                files::real_path_within(&folder, Path::new(&version))?;
                CheckedFolder::open(&folder.join(&version), &self.options.keys)?
                    .read(Path::new(PLUGIN_FILE))?
            }
        };
        let plugin_source = PluginSource {
            component,
            declared: bundle.config.capabilities.clone(),
            allowed: self.options.allow.clone(),
            bundle: BundleContext {
                model: source.model.clone(),
                version: source.version.clone(),
                plugin: plugin_name(reference),
                files: bundle.files.clone(),
                settings: bundle.config.settings.clone(),
            },
            limits: self.options.limits.clone(),
        };
        Plugin::load(&self.engine, plugin_source).map(Some).map_err(|error| error.to_string())
    }
}

pub(super) fn cannot_start(error: std::io::Error) -> String {
    format!("a worker cannot be started: {error}")
}

fn plugin_name(reference: &PluginRef) -> String {
    match reference {
        PluginRef::File(path) => path.to_string(),
        PluginRef::Named { name, .. } => name.clone(),
    }
}

/// The latest version in a plugin's folder that a bundle's requirement admits.
pub(super) fn latest_matching(folder: &Path, versions: &semver::VersionReq) -> Result<String, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| {
        format!("plugin folder {} cannot be read: {error}; is --plugins right?", folder.display())
    })?;
    let mut there: Vec<semver::Version> =
        entries.filter_map(|entry| semver::Version::parse(entry.ok()?.file_name().to_str()?).ok()).collect();
    there.sort();
    if let Some(found) = there.iter().rev().find(|version| versions.matches(version)) {
        return Ok(found.to_string());
    }
    let there: Vec<_> = there.iter().map(ToString::to_string).collect();
    Err(format!("no version in {} fits {versions}; there are [{}]", folder.display(), there.join(", ")))
}

/// A version's files, each read once.
struct Bundle {
    config: BundleConfig,
    folder: PathBuf,
    checked: Option<CheckedFolder>,
    model_path: PathBuf,
    model: Bytes,
    files: std::collections::BTreeMap<String, (u64, Option<Bytes>)>,
    samples: Vec<(String, Bytes)>,
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
        let model_path = folder.join(config.model.as_path());
        Ok(Self {
            folder: folder.to_owned(),
            model_path,
            model,
            files,
            samples,
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
            files: std::collections::BTreeMap::new(),
            samples: Vec::new(),
        })
    }

    fn digest(&self) -> String {
        use sha2::Digest as _;
        let hash = sha2::Sha256::digest(&self.model);
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
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
}
