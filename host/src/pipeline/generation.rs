//! A version of a model with its plugin and settings, ready to serve.
//!
//! Owns nothing that changes an answer: a request pins one with an `Arc`, and whatever is swapped
//! meanwhile, it is answered by this one from the first stage to the last. Its settings are hot: who may
//! wait for how long, and how many workers there are, may change while it serves.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::footprint::Footprint;
use super::usage::Usage;
use crate::cache::Seed;
use crate::config::{self, ModelConfig};
use crate::haste::Haste;
use crate::isolation::Executor;
use crate::model::{Device, Labels, OutputLabels, Placement, Signature};
use crate::plugin::Plugin;
use crate::scheduler::{
    BatchLimits, Budget, Oversize, Scheduler, SchedulerLimits, SchedulerOptions, SessionOpener, WorkerRange,
};
use crate::telemetry::{ComputeSeries, GenerationMetrics};

/// What a generation is made of.
#[derive(Debug)]
pub struct GenerationParts {
    /// The model's name.
    pub model: String,
    /// The version's name.
    pub version: String,
    /// Tells its content from every other: model, plugin, files and settings of the bundle, in hexadecimal.
    pub digest: String,
    /// What all of its answers depend on.
    pub seed: Seed,
    /// What the model takes and gives.
    pub signature: Arc<Signature>,
    /// What elements of its outputs stand for.
    pub labels: OutputLabels,
    /// One for each worker.
    pub sessions: Vec<Executor>,
    /// How it is served.
    pub settings: ModelConfig,
    /// Its plugin, if it has one.
    pub plugin: Option<Plugin>,
    /// Where it counts.
    pub metrics: GenerationMetrics,
    /// Where its batches and workers count.
    pub compute: Arc<ComputeSeries>,
    /// What opens more sessions, if there may be more.
    pub opener: Option<SessionOpener>,
    /// The cores, shared with the other models.
    pub budget: Arc<Budget>,
    /// How much memory it uses.
    pub footprint: Footprint,
    /// How urgent it is that it serves.
    pub haste: Haste,
    /// Where its sessions run.
    pub placement: Arc<Placement>,
    /// Who is told when it is given up because its workers die again and again.
    pub on_given_up: Arc<Notify>,
}

/// See the module.
#[derive(Debug)]
pub struct Generation {
    model: String,
    version: String,
    digest: String,
    seed: Seed,
    signature: Arc<Signature>,
    labels: OutputLabels,
    scheduler: Scheduler,
    plugin: Option<Plugin>,
    metrics: GenerationMetrics,
    placement: Arc<Placement>,
    settings: ArcSwap<ModelConfig>,
    footprint: Footprint,
    usage: Usage,
}

/// How many workers a model may have. On a GPU there are two unless something else is asked for, and from the
/// start: one copies while the other computes.
pub(crate) fn worker_range(settings: &ModelConfig, device: Device) -> WorkerRange {
    let workers = &settings.workers;
    let usual = if device == Device::Cpu { 1 } else { 2 };
    let max = workers.max.unwrap_or_else(|| usual.max(workers.min.unwrap_or(usual)));
    let min = workers.min.unwrap_or(usual).min(max);
    WorkerRange { min, max, wait: workers.queue_wait, idle: workers.idle }
}

/// What of a model's settings its scheduler may be told anew while it serves.
fn scheduler_limits(settings: &ModelConfig) -> SchedulerLimits {
    let (queue, batching) = (&settings.queue, &settings.batching);
    SchedulerLimits {
        queue_size: queue.size,
        queue_timeout: queue.timeout,
        priorities: queue.priorities,
        batching: BatchLimits {
            max_size: batching.max_batch_size,
            max_elements: batching.max_batch_elements,
            max_delay: batching.max_queue_delay,
            preferred: batching.preferred.clone(),
            oversize: match batching.oversize {
                config::Oversize::Run => Oversize::Run,
                config::Oversize::Split => Oversize::Split,
                config::Oversize::Refuse => Oversize::Refuse,
            },
        },
    }
}

impl Generation {
    /// A generation that is ready to serve.
    ///
    /// # Errors
    /// When a worker's thread cannot be started.
    pub fn start(parts: GenerationParts) -> std::io::Result<Self> {
        let options = SchedulerOptions {
            model: parts.model.clone(),
            limits: scheduler_limits(&parts.settings),
            tolerance: parts.settings.batching.tolerance,
            metrics: parts.compute,
            workers: worker_range(&parts.settings, parts.placement.device),
            opener: parts.opener,
            budget: parts.budget,
            haste: parts.haste,
            on_given_up: parts.on_given_up,
        };
        Ok(Self {
            scheduler: Scheduler::start(parts.sessions, options)?,
            model: parts.model,
            version: parts.version,
            digest: parts.digest,
            seed: parts.seed,
            signature: parts.signature,
            labels: parts.labels,
            plugin: parts.plugin,
            metrics: parts.metrics,
            placement: parts.placement,
            settings: ArcSwap::from_pointee(parts.settings),
            footprint: parts.footprint,
            usage: Usage::default(),
        })
    }

    /// What the elements of an output stand for, if the bundle says.
    pub fn labels(&self, output: &str) -> Option<&Labels> {
        self.labels.get(output)
    }

    /// Tells its content from every other, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What all of its answers depend on, in the keys under which they are remembered.
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// Who uses it.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// What its memory depends on.
    pub fn footprint(&self) -> Footprint {
        self.footprint
    }

    /// Bytes of memory that it is taken to use, with the workers that it has now.
    pub fn memory(&self) -> u64 {
        self.footprint.bytes(self.scheduler.workers().0)
    }

    /// How it is served now.
    pub fn settings(&self) -> Arc<ModelConfig> {
        self.settings.load_full()
    }

    /// Serves on with other settings. `more` are sessions of the same content, one for each worker that is
    /// to be added, and `opener` opens those that may be needed later, if it has none yet; workers that are
    /// too many end after what they run.
    ///
    /// # Errors
    /// When a worker's thread cannot be started; all else is in effect then.
    pub fn apply(
        &self,
        settings: ModelConfig,
        more: Vec<Executor>,
        opener: Option<SessionOpener>,
    ) -> std::io::Result<()> {
        self.scheduler.apply(scheduler_limits(&settings));
        let range = worker_range(&settings, self.placement.device);
        self.settings.store(Arc::new(settings));
        more.into_iter().try_for_each(|session| self.scheduler.add_worker(session))?;
        self.scheduler.scale_within(range, opener);
        Ok(())
    }

    /// Ends its workers, waits for them, and frees everything. Call it on a blocking thread.
    pub fn free(self) {
        let Self { scheduler, plugin, .. } = self;
        scheduler.stop();
        drop(plugin);
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The version's name.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What the model takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Where its sessions run, and why there.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// How many workers it may have now.
    pub fn worker_range(&self) -> WorkerRange {
        worker_range(&self.settings(), self.placement.device)
    }

    /// Its plugin, if it has one.
    pub fn plugin(&self) -> Option<&Plugin> {
        self.plugin.as_ref()
    }

    /// Where it counts.
    pub fn metrics(&self) -> &GenerationMetrics {
        &self.metrics
    }

    /// Brings its metrics up to how queue, workers and instances stand now.
    pub fn observe(&self) {
        let pool = self.plugin().map(Plugin::status);
        self.metrics().observe(self.scheduler().waiting(), self.scheduler().workers(), self.memory(), pool);
    }

    /// Its queue and workers.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_has_two_workers_unless_told_otherwise() {
        let range = |device, min, max| {
            let mut settings = ModelConfig::default();
            (settings.workers.min, settings.workers.max) = (min, max);
            let range = worker_range(&settings, device);
            (range.min, range.max)
        };
        let gpu = Device::Cuda(0);
        assert_eq!((range(Device::Cpu, None, None), range(gpu, None, None)), ((1, 1), (2, 2)));
        assert_eq!((range(Device::Cpu, None, Some(4)), range(gpu, None, Some(4))), ((1, 4), (2, 4)));
        assert_eq!((range(Device::Cpu, Some(3), None), range(gpu, Some(3), None)), ((3, 3), (3, 3)));
        assert_eq!((range(gpu, None, Some(1)), range(gpu, Some(1), None)), ((1, 1), (1, 2)));
        // `models[].max_workers` may be less than the model's own `workers.min`.
        assert_eq!(range(Device::Cpu, Some(4), Some(2)), (2, 2));
    }
}
