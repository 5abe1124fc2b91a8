//! From a version's folder to a generation that is ready to serve.
//!
//! Owns the order: read each file once, validate in a child process, open the sessions, load the plugin,
//! warm up. Each failure is a reason that names the file and the remedy. It runs on a blocking thread,
//! never on the request path.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Notify;

use super::content::Content;
use super::layout::VersionSource;
use super::signature::TrustedKeys;
use super::status::LoadStage;
use super::validation::{self, ValidationOptions};
use super::warmup;
use crate::cache::{Seed, SeedParts};
use crate::config::{ByteSize, Capability, Isolation, ModelConfig};
use crate::haste::Haste;
use crate::isolation::{Executor, Isolated, IsolationOptions, OpenError};
use crate::model::{Device, DeviceWish, ModelSession, Placement, Runtime, SessionOptions, Signature};
use crate::pipeline::{Footprint, Generation, GenerationParts, worker_range};
use crate::plugin::{BundleContext, Plugin, PluginEngine, PluginLimits, PluginSource};
use crate::scheduler::{Budget, SessionOpener};
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
    /// How versions are tried out in a process of their own; `None` opens them untried.
    pub validation: Option<ValidationOptions>,
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
    /// The cores, shared between all models.
    pub budget: Arc<Budget>,
    /// Told when a generation is given up.
    pub given_up: Arc<Notify>,
    /// What holds for every version.
    pub options: LoaderOptions,
}

impl Loader {
    /// Loads and warms up one version, and tells of each stage as it begins. Takes seconds: call it on a
    /// blocking thread of a runtime.
    ///
    /// # Errors
    /// The reason, for the operator.
    pub fn load(
        &self,
        source: &VersionSource,
        haste: Haste,
        progress: &dyn Fn(LoadStage),
    ) -> Result<Generation, String> {
        let settings = source.settings.clone()?;
        progress(LoadStage::Validating);
        let content = self.read_validated(source, &settings, haste)?;
        progress(LoadStage::Loading);
        let opening = self.opening(&content, &settings, settings.workers.session.device)?;
        let workers = worker_range(&settings, opening.placement.device).min;
        let (sessions, plugin) = self.open(&content, &opening, workers, haste)?;
        progress(LoadStage::Warming);
        self.start(&content, (sessions, opening), plugin, settings, haste)
    }

    /// Validates one version without keeping anything of it in memory. Takes seconds, as [`Loader::load`].
    ///
    /// # Errors
    /// The reason, for the operator.
    pub fn check(&self, source: &VersionSource, progress: &dyn Fn(LoadStage)) -> Result<Checked, String> {
        let settings = source.settings.clone()?;
        progress(LoadStage::Validating);
        let content = self.read_validated(source, &settings, Haste::Background)?;
        if self.options.validation.is_none() {
            // Nobody else has opened it.
            progress(LoadStage::Loading);
            let opening = self.opening(&content, &settings, settings.workers.session.device)?;
            drop(self.open(&content, &opening, 1, Haste::Background)?);
        }
        Ok(Checked { digest: content.digest(), footprint: footprint(&content, &settings, Device::Cpu) })
    }

    fn read_validated(
        &self,
        source: &VersionSource,
        settings: &ModelConfig,
        haste: Haste,
    ) -> Result<Content, String> {
        let content = haste.run(|| Content::read(source, &self.options))?;
        validation::validate(&content, settings, &self.runtime, &self.options, haste)?;
        Ok(content)
    }

    /// The sessions and the plugin, or what is wrong with either of them.
    pub(super) fn open(
        &self,
        content: &Content,
        opening: &Opening,
        workers: usize,
        haste: Haste,
    ) -> Result<(Vec<Executor>, Option<Plugin>), String> {
        // Always: the compiler's own threads are started by the first one that compiles, and stay as that one was.
        let plugin = || Haste::Background.run(|| self.load_plugin(content));
        match (opening.sessions(workers, haste), plugin()) {
            (Ok(sessions), Ok(plugin)) => Ok((sessions, plugin)),
            (Err(model), Err(plugin)) => Err(format!("{model}\n{plugin}")),
            (Err(reason), Ok(_)) | (Ok(_), Err(reason)) => Err(reason),
        }
    }

    /// Warms up, starts the workers, and sends the samples through all of it.
    pub(super) fn start(
        &self,
        content: &Content,
        (mut sessions, opening): (Vec<Executor>, Opening),
        plugin: Option<Plugin>,
        settings: ModelConfig,
        haste: Haste,
    ) -> Result<Generation, String> {
        let signature = sessions.first().map(|session| Arc::clone(session.signature()));
        let signature = signature.ok_or("workers.max is 0: a model needs at least one worker")?;
        check_labels(content, &signature)?;
        let samples = warmup::read_samples(&content.samples, plugin.as_ref(), &signature, &content.model)?;
        haste.run(|| warmup::warm_up_sessions(&mut sessions, &settings.warmup.batch_sizes, &samples))?;
        let metrics =
            self.metrics.generation(&content.model, &content.version, plugin.as_ref().map(Plugin::name));
        let Opening { opener, placement, .. } = opening;
        let (device, reason) = (placement.device, &placement.reason);
        tracing::info!(model = content.model, version = content.version, %device, reason, "where it runs");
        let compute = self.metrics.compute();
        compute.runs_on(&content.model, &content.version, &device.to_string());
        let opener = needs_opener(&settings, device).then_some(opener);
        let footprint = footprint(content, &settings, device);
        let digest = haste.run(|| content.digest());
        let generation = Generation::start(GenerationParts {
            model: content.model.clone(),
            version: content.version.clone(),
            seed: self.seed(content, &digest, &settings, &placement),
            digest,
            signature,
            labels: content.labels.clone(),
            sessions,
            settings,
            metrics,
            plugin,
            compute: compute.generation(&content.model, &content.version),
            opener,
            budget: match device {
                Device::Cpu => Arc::clone(&self.budget),
                Device::Cuda(_) => Budget::of_a_gpu(),
            },
            placement,
            footprint,
            haste,
            on_given_up: Arc::clone(&self.given_up),
        });
        let generation = Arc::new(generation.map_err(cannot_start)?);
        let warmed = warmup::warm_up(&generation, &samples);
        let generation = Arc::into_inner(generation).ok_or("a request of its warm-up still runs")?;
        match warmed {
            Ok(()) => {
                generation.scheduler().begin_counting();
                Ok(generation)
            }
            Err(reason) => {
                generation.free();
                Err(reason)
            }
        }
    }

    /// What the answers of this content depend on, as this host serves it.
    fn seed(&self, content: &Content, digest: &str, settings: &ModelConfig, placement: &Placement) -> Seed {
        let threads = self.runtime.options().intra_threads;
        let tensorrt = settings.workers.session.tensorrt;
        let limits = &self.options.limits;
        Seed::new(&SeedParts {
            model: &content.model,
            version: &content.version,
            digest,
            runtime: Runtime::build_info(),
            place: &format!("{} tensorrt={tensorrt} threads={threads}", placement.device),
            limits: [limits.memory as u64, limits.output as u64, u64::from(limits.pixels)],
        })
    }

    /// Opens and warms up the sessions that `serving` lacks for the settings of `source`, and with them what
    /// opens those that may be needed later. Whether the files are still those that serve is the caller's to
    /// find out. Takes seconds, as [`Loader::load`].
    ///
    /// # Errors
    /// The reason, for the operator.
    pub fn open_more(&self, source: &VersionSource, serving: &Generation) -> Result<More, String> {
        let settings = source.settings.as_ref().map_err(String::clone)?;
        let device = serving.placement().device;
        let range = worker_range(settings, device);
        let count = range.min.saturating_sub(serving.scheduler().workers().0);
        if count == 0 && (range.max == range.min || serving.scheduler().can_open()) {
            return Ok(More::default());
        }
        let content = self.read_validated(source, settings, Haste::Background)?;
        let opening = self.opening(&content, settings, device.into())?;
        let mut sessions = opening.sessions(count, Haste::Background)?;
        let samples =
            warmup::read_samples(&content.samples, serving.plugin(), serving.signature(), &source.model)?;
        let sizes = &settings.warmup.batch_sizes;
        Haste::Background.run(|| warmup::warm_up_sessions(&mut sessions, sizes, &samples))?;
        Ok(More { sessions, opener: needs_opener(settings, device).then_some(opening.opener) })
    }

    /// Decides where a content runs that is wanted on `wish`, and what opens its sessions, as its settings say. It
    /// keeps the model's bytes in memory, once.
    pub(super) fn opening(
        &self,
        content: &Content,
        settings: &ModelConfig,
        wish: DeviceWish,
    ) -> Result<Opening, String> {
        let path = content.model_path.clone();
        let is_process = settings.workers.isolation == Isolation::Process;
        let wanted = SessionOptions { device: wish, ..settings.workers.session.clone() };
        let placement = content.source.placement(&self.runtime, &wanted);
        let placement = placement.map_err(|error| format!("{path}: {error}"))?;
        let workers = worker_range(settings, placement.device).max;
        // A single worker is better off with weights of its own: ONNX Runtime then keeps only what its kernels
        // need of them. Processes share theirs in a way of their own.
        let share_weights =
            wanted.share_weights && workers > 1 && settings.workers.isolation == Isolation::Thread;
        let options = SessionOptions { device: placement.device.into(), share_weights, ..wanted };
        let is_plain = placement.device == Device::Cpu && self.runtime.options().intra_threads <= 1;
        let starts_others = is_process || !is_plain;
        if is_process {
            let isolated = Isolated::new(&content.source, self.isolation(settings, options));
            let isolated = isolated.map_err(|reason| format!("{path}: {reason}"))?;
            let opener = SessionOpener::new(move || {
                isolated.open().map(Executor::from).map_err(|error| error.about(&path))
            });
            return Ok(Opening { opener, placement, starts_others });
        }
        let (runtime, source) = (Arc::clone(&self.runtime), content.source.clone());
        let opener = SessionOpener::new(move || {
            let session = ModelSession::open(&runtime, &source, &options)
                .map_err(|error| OpenError::from(format!("{path}: {error}")))?;
            if let Some(reason) = session.unshared() {
                tracing::warn!(model = path, reason, "a session has weights of its own");
            }
            Ok(Executor::from(session))
        });
        Ok(Opening { opener, placement, starts_others })
    }

    fn isolation(&self, settings: &ModelConfig, session: SessionOptions) -> IsolationOptions {
        IsolationOptions {
            library: self.runtime.library().to_owned(),
            intra_threads: self.runtime.options().intra_threads,
            session,
            memory: settings.workers.memory.map(ByteSize::as_u64),
            health: settings.workers.health,
        }
    }

    fn load_plugin(&self, content: &Content) -> Result<Option<Plugin>, String> {
        let Some(plugin) = &content.plugin else {
            return Ok(None);
        };
        let source = PluginSource {
            component: plugin.component.clone(),
            declared: content.capabilities.clone(),
            allowed: self.options.allow.clone(),
            bundle: BundleContext {
                model: content.model.clone(),
                version: content.version.clone(),
                plugin: plugin.name.clone(),
                files: content.files.clone(),
                settings: content.settings.clone(),
            },
            limits: self.options.limits.clone(),
        };
        Plugin::load(&self.engine, source).map(Some).map_err(|error| error.to_string())
    }
}

/// What is known of a version that was validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Tells its content from every other, in hexadecimal.
    pub digest: String,
    /// What its memory would depend on.
    pub footprint: Footprint,
}

/// Labels are for outputs that the model has.
fn check_labels(content: &Content, signature: &Signature) -> Result<(), String> {
    let has = |name: &str| signature.outputs.iter().any(|output| output.name == name);
    let Some(name) = content.labels.keys().find(|name| !has(name)) else {
        return Ok(());
    };
    let outputs: Vec<&str> = signature.outputs.iter().map(|output| output.name.as_str()).collect();
    Err(format!("bundle.yaml: labels.{name}: the model has no such output; it has {}", outputs.join(", ")))
}

fn footprint(content: &Content, settings: &ModelConfig, device: Device) -> Footprint {
    let length = |bytes: &[u8]| bytes.len() as u64;
    let external = content.source.external().values().map(|bytes| length(bytes));
    let model = length(content.source.model()).saturating_add(external.sum());
    let plugin = content.plugin.as_ref().map_or(0, |plugin| length(&plugin.component));
    let files: u64 = content.files.values().filter_map(|(_, bytes)| bytes.as_deref()).map(length).sum();
    let labels: u64 = content.labels.values().map(|labels| labels.size() as u64).sum();
    Footprint::new(model, needs_opener(settings, device), plugin, files.saturating_add(labels))
}

/// What a generation needs to serve on with more workers.
#[derive(Debug, Default)]
pub struct More {
    /// For workers that are to be added at once.
    pub sessions: Vec<Executor>,
    /// Opens those that may be needed later.
    pub opener: Option<SessionOpener>,
}

/// What opens a content's sessions, and where they run.
pub(super) struct Opening {
    opener: SessionOpener,
    placement: Arc<Placement>,
    /// Threads or processes that answer requests are started as one is opened.
    starts_others: bool,
}

impl Opening {
    fn sessions(&self, count: usize, haste: Haste) -> Result<Vec<Executor>, String> {
        let open = || (0..count).map(|_| self.opener.open().map_err(|error| error.reason)).collect();
        if self.starts_others { open() } else { haste.run(open) }
    }
}

/// Whether sessions may be opened while a generation serves: when there may be more of them, and when one may
/// die.
pub(super) fn needs_opener(settings: &ModelConfig, device: Device) -> bool {
    let range = worker_range(settings, device);
    range.max > range.min || settings.workers.isolation == Isolation::Process
}

pub(super) fn cannot_start(error: std::io::Error) -> String {
    format!("a worker cannot be started: {error}")
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
