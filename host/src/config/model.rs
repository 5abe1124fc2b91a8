//! `model.yaml`: how a model is served.

use std::time::Duration;

use super::batching::{self, BatchingSettings};
use super::device::{self, Count};
use super::model_cache::{self, CachePolicy};
use super::names::Name;
use super::on_demand::{self, OnDemand};
use super::quantity::ByteSize;
use super::section::Section;
use super::setting::Choice;
use super::traffic::{AlsoWanted, Labels, TrafficPolicy};
use super::traffic_decode;
use super::tree::Value;
use super::yaml_text;
use crate::model::SessionOptions;

/// The most sizes that are warmed up.
const MOST_BATCH_SIZES: usize = 64;
/// The largest size that is warmed up.
const LARGEST_BATCH: usize = 65_536;
/// The least that a process may be limited to.
const LEAST_MEMORY: ByteSize = ByteSize::mib(64);

/// The most sessions of a version.
const MOST_WORKERS: usize = 4096;

/// How a model is served, whatever its versions are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelConfig {
    /// `versions`, default `{latest: 1}`: which versions are loaded.
    pub versions: VersionPolicy,
    /// `timeout`, default none: how long a request to this model may take altogether, waiting included. It
    /// shortens `server.request_timeout` and never lengthens it.
    pub timeout: Option<Duration>,
    /// `workers`: what runs the model.
    pub workers: WorkerSettings,
    /// `queue`: who waits for a worker.
    pub queue: QueueSettings,
    /// `batching`: which requests run together.
    pub batching: BatchingSettings,
    /// `cache`, default off: which answers are remembered.
    pub cache: CachePolicy,
    /// `labels`, default none: names for versions.
    pub labels: Labels,
    /// `traffic`, default latest: which version answers a request that names none.
    pub traffic: TrafficPolicy,
    /// `warmup`: what is run before a version serves.
    pub warmup: WarmupSettings,
    /// `load` and `idle`, default as in `repository`: whether versions are in memory all the time, or come
    /// with their first request. Lazy for models that are asked now and then; their first request waits.
    pub on_demand: OnDemand,
}

impl ModelConfig {
    /// Whether what is loaded under `before` has to be loaded anew to be served like this. A key that is not
    /// named here is hot: it is applied to what serves.
    pub fn needs_reload(&self, before: &Self) -> bool {
        // Each session was warmed up, and none is taken from its worker to be warmed up again.
        // What a model makes of batches is found out before it serves.
        self.warmup != before.warmup
            || self.batching.tolerance != before.batching.tolerance
            || self.workers.where_it_runs() != before.workers.where_it_runs()
    }

    /// What has to be loaded for labels and traffic, whatever `versions` says.
    pub fn also_wanted(&self) -> AlsoWanted {
        self.traffic.also_wanted(&self.labels, true)
    }
}

/// Which versions of a model are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionPolicy {
    /// `{latest: n}`: the `n` newest ones. Each costs memory; 2 keeps the one before at hand.
    Latest(usize),
    /// `all`: every one. For folders that are kept tidy by other means.
    All,
    /// `[1, 3]`: these, by name. To hold a version while newer ones are tried elsewhere.
    Only(Vec<String>),
}

/// `workers`: what runs the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// `max`, default `auto`: sessions of each version, thus runs at a time; 1 on the cores, and 2 on a GPU,
    /// so that one copies while the other computes. Each session has working memory of its own, which is
    /// why there is but one unless asked for; raise it up to the number of cores (divided by
    /// `runtime.intra_threads`) for a model that has to answer many requests at a time.
    pub max: Option<usize>,
    /// `min`, default `auto`: sessions that are there from the start and always; more are opened, up to `max`,
    /// while requests wait too long. 1 on the cores, and on a GPU as many as `max` up to 2.
    pub min: Option<usize>,
    /// `queue_wait`, default 10 ms: how long requests may wait in the queue, for a quarter of a second,
    /// before another worker is opened.
    pub queue_wait: Duration,
    /// `idle`, default 60 s: how long a worker must not have been needed before it ends.
    pub idle: Duration,
    /// `device`, `tensorrt`, `gpu_memory`, `share_weights` and `arena`: where sessions run, and their memory.
    pub session: SessionOptions,
    /// `isolation`, default `thread`: where a worker runs the model. In a process of its own, a model that
    /// crashes takes nothing with it but its own run, at the price of some memory for each worker and some
    /// microseconds for each run.
    pub isolation: Isolation,
    /// `memory`, default none: private memory that a worker in a process of its own may use. What a run takes
    /// beyond it fails that run.
    pub memory: Option<ByteSize>,
    /// `health`, default 5 s: how long a worker in a process of its own may stay silent before it is ended and
    /// replaced. A run that takes long is not silent.
    pub health: Duration,
}

impl WorkerSettings {
    /// What a worker is started with: other values are for other workers.
    fn where_it_runs(&self) -> (Isolation, Option<ByteSize>, Duration, &SessionOptions) {
        (self.isolation, self.memory, self.health, &self.session)
    }
}

/// `workers.isolation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// In the host itself.
    Thread,
    /// In a process of its own.
    Process,
}

impl Isolation {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Process => "process",
        }
    }

    /// Whether there is such a thing on that system.
    fn served_on(self, system: &str) -> Result<(), String> {
        if self == Self::Thread || system == "linux" {
            return Ok(());
        }
        Err(format!(
            "expected thread on {system}: the shared memory of a process of its own is Linux's alone"
        ))
    }
}

impl Choice for Isolation {
    const WORDS: &'static [(&'static str, Self)] = &[("thread", Self::Thread), ("process", Self::Process)];
}

/// `queue`: who waits for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// `size`, default 1024: requests that may wait; 0 lets none. The next one is refused at once
    /// (429). Each holds its input tensors. Lower it to refuse earlier rather than answer late.
    pub size: usize,
    /// `timeout`, default 2 s: how long one may wait before it is refused (503). Keep it under the
    /// patience of the clients.
    pub timeout: Duration,
    /// `priorities`, default 1: levels of the request parameter `priority`, 1 the first to be served; a
    /// request that says nothing is of the middle one. With one level the parameter means nothing, so that
    /// no client can push itself forward unless the operator wants it.
    pub priorities: u32,
}

/// `warmup`: what is run before a version serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmupSettings {
    /// `batch_sizes`, default `[1]`: each session of a version runs once with each of these as the size of
    /// the first dimension, before the version serves; of models whose inputs all leave that dimension
    /// open, others run once as they are. Name the sizes that requests or batches will have: a size that
    /// is new to a session costs the request that brings it. Each run holds its tensors in memory.
    pub batch_sizes: Vec<usize>,
}

impl Default for ModelConfig {
    /// What is in effect without a `model.yaml`.
    fn default() -> Self {
        Self {
            versions: VersionPolicy::Latest(1),
            timeout: None,
            workers: WorkerSettings {
                max: None,
                min: None,
                queue_wait: Duration::from_millis(10),
                idle: Duration::from_secs(60),
                session: SessionOptions { share_weights: true, ..SessionOptions::default() },
                isolation: Isolation::Thread,
                memory: None,
                health: Duration::from_secs(5),
            },
            queue: QueueSettings { size: 1024, timeout: Duration::from_secs(2), priorities: 1 },
            batching: BatchingSettings::default(),
            cache: CachePolicy::default(),
            labels: Labels::new(),
            traffic: TrafficPolicy::Latest,
            warmup: WarmupSettings { batch_sizes: vec![1] },
            on_demand: OnDemand::default(),
        }
    }
}

/// Decodes the whole file.
pub(super) fn decode(section: &mut Section<'_>) -> ModelConfig {
    let default = ModelConfig::default();
    let day = Duration::from_secs(24 * 3600);
    let versions = versions(section);
    let labels = traffic_decode::labels(section);
    ModelConfig {
        versions,
        timeout: section.take_if("timeout", default.timeout, |timeout: &Option<Duration>| match timeout {
            Some(timeout) if timeout.is_zero() || *timeout > day => {
                Err(format!("expected 1ms to 1d, got {}", super::duration_text(*timeout)))
            }
            _ => Ok(()),
        }),
        traffic: section.section("traffic", |section| traffic_decode::policy(section, &labels)),
        labels,
        workers: section.section("workers", |section| workers(section, default.workers)),
        queue: section.section("queue", |section| QueueSettings {
            size: section.take_in("size", default.queue.size, 0..=1_000_000),
            timeout: section.take_in("timeout", default.queue.timeout, Duration::from_millis(1)..=day),
            priorities: section.take_in("priorities", default.queue.priorities, 1..=1000),
        }),
        batching: section.section("batching", batching::decode),
        cache: section.section("cache", model_cache::decode),
        on_demand: on_demand::of_model(section),
        warmup: section.section("warmup", |section| WarmupSettings {
            batch_sizes: section
                .take_if("batch_sizes", default.warmup.batch_sizes, |sizes| check_batch_sizes(sizes)),
        }),
    }
}

fn check_batch_sizes(sizes: &[usize]) -> Result<(), String> {
    if sizes.is_empty() || sizes.len() > MOST_BATCH_SIZES {
        return Err(format!("expected 1 to {MOST_BATCH_SIZES} sizes, got {}", sizes.len()));
    }
    match sizes.iter().find(|size| !(1..=LARGEST_BATCH).contains(*size)) {
        Some(size) => Err(format!("expected sizes of 1 to {LARGEST_BATCH}, got {size}")),
        None => Ok(()),
    }
}

fn workers(section: &mut Section<'_>, default: WorkerSettings) -> WorkerSettings {
    let most = |most: usize, why: &'static str| {
        move |count: &Count| match count.0 {
            Some(count) if !(1..=most).contains(&count) => {
                Err(format!("expected 1 to {most}{why}, got {count}"))
            }
            _ => Ok(()),
        }
    };
    let max = section.take_if("max", Count(default.max), most(MOST_WORKERS, "")).0;
    let why = if max.is_some() { ", which is workers.max" } else { "" };
    let min = section.take_if("min", Count(default.min), most(max.unwrap_or(MOST_WORKERS), why)).0;
    let (milli, day) = (Duration::from_millis(1), Duration::from_secs(24 * 3600));
    WorkerSettings {
        max,
        min,
        queue_wait: section.take_in("queue_wait", default.queue_wait, milli..=Duration::from_secs(60)),
        idle: section.take_in("idle", default.idle, Duration::from_secs(1)..=day),
        session: device::decode(section),
        isolation: section
            .take_if("isolation", default.isolation, |isolation| isolation.served_on(std::env::consts::OS)),
        memory: section.take_if("memory", default.memory, |memory: &Option<ByteSize>| match memory {
            Some(memory) if *memory < LEAST_MEMORY => Err(format!(
                "expected at least {LEAST_MEMORY}, which ONNX Runtime takes itself, got {memory}"
            )),
            _ => Ok(()),
        }),
        health: section.take_in(
            "health",
            default.health,
            Duration::from_millis(100)..=Duration::from_secs(3600),
        ),
    }
}

fn versions(section: &mut Section<'_>) -> VersionPolicy {
    const KEY: &str = "versions";
    match section.peek(KEY) {
        Some(Value::Sequence(_)) => {
            let check = |names: &Vec<Name>| match names.is_empty() {
                true => Err("names no version; list some, or remove the key for the latest one".to_owned()),
                false => Ok(()),
            };
            let names = section.take_if(KEY, Vec::new(), check);
            VersionPolicy::Only(names.into_iter().map(|name| name.0).collect())
        }
        Some(Value::Scalar { text, .. }) if text == "all" => {
            let place = section.claim(KEY).map(|node| node.place);
            section.record_raw(section.path().key(KEY), yaml_text::scalar("all"), place.as_ref());
            VersionPolicy::All
        }
        Some(Value::Scalar { text, .. }) if !text.is_empty() => {
            if let Some(node) = section.claim(KEY) {
                let message =
                    format!("expected {{latest: 2}}, all, or a list [1, 3], got {}", node.describe());
                section.problem(KEY, &node.place, message);
            }
            VersionPolicy::Latest(1)
        }
        _ => section.section(KEY, |section| VersionPolicy::Latest(section.take_in("latest", 1, 1..=1000))),
    }
}

#[cfg(test)]
mod tests {
    use super::Isolation;

    #[test]
    fn processes_are_refused_by_name_where_there_are_none() {
        assert_eq!(Isolation::Process.served_on("linux"), Ok(()));
        assert_eq!(Isolation::Thread.served_on("macos"), Ok(()));
        let reason = Isolation::Process.served_on("macos").unwrap_err();
        assert!(reason.contains("expected thread on macos") && reason.contains("Linux"), "{reason}");
    }
}
