//! Every metric of the host, in OpenMetrics' text form, which Prometheus reads.
//!
//! Owns the names (`nuke_<noun>_<unit>[_total]`), the labels (`model, version, plugin, stage,
//! outcome`; never a request's id) and the registry. A generation resolves its series once, so that a
//! request touches no map.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::cache::CacheMetrics;
use super::compute::ComputeMetrics;
use super::endpoint::Endpoint;
use super::front::FrontMetrics;
use super::generation::GenerationMetrics;
use super::labels::{ModelOutcomeLabels, VersionLabels};
use super::memory::MemoryMetrics;
use super::traffic::TrafficMetrics;
use crate::pipeline::Stage;

/// Upper bounds in seconds: from a cached tiny model to a large one on a busy machine.
const BUCKETS: [f64; 17] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0,
];

/// The states of a version. `outdated`, `standby`, and the stages of a load of what serves, go with `ready`.
const STATES: [&str; 10] = [
    "discovered",
    "validating",
    "loading",
    "warming",
    "ready",
    "outdated",
    "standby",
    "draining",
    "unloaded",
    "failed",
];

/// The outcome of a request that was answered.
pub(super) const OK: &str = "ok";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) model: String,
    pub(super) version: String,
    pub(super) endpoint: &'static str,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StageLabels {
    pub(super) model: String,
    pub(super) version: String,
    pub(super) stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PluginLabels {
    pub(super) model: String,
    pub(super) version: String,
    pub(super) plugin: String,
    pub(super) stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    model: String,
    version: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TransitionLabels {
    model: String,
    state: &'static str,
}

pub(super) type Seconds = Counter<f64, std::sync::atomic::AtomicU64>;

/// All series of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    pub(super) requests: Family<RequestLabels, Counter>,
    pub(super) durations: Family<StageLabels, Histogram, fn() -> Histogram>,
    pub(super) plugin_cpu: Family<PluginLabels, Seconds>,
    in_flight: Family<VersionLabels, Gauge>,
    responses: Family<StatusLabels, Counter>,
    grpc_responses: Family<CodeLabels, Counter>,
    connections: Gauge,
    states: Family<StateLabels, Gauge>,
    swaps: Family<ModelOutcomeLabels, Counter>,
    transitions: Family<TransitionLabels, Counter>,
    rescans: Counter,
    readable: Gauge,
    pub(super) waiting: Family<VersionLabels, Gauge>,
    pub(super) workers: Family<VersionLabels, Gauge>,
    pub(super) workers_busy: Family<VersionLabels, Gauge>,
    pub(super) instances: Family<VersionLabels, Gauge>,
    pub(super) instances_created: Family<VersionLabels, Counter>,
    pub(super) instances_broken: Family<VersionLabels, Counter>,
    front: Arc<FrontMetrics>,
    traffic: TrafficMetrics,
    pub(super) memory: MemoryMetrics,
    cache: CacheMetrics,
    pub(super) compute: ComputeMetrics,
    /// Plugins that each version has counted for.
    pub(super) plugins: Mutex<BTreeMap<(String, String), BTreeSet<String>>>,
}

impl Metrics {
    /// An empty set, with the build's own identity.
    pub fn new(onnxruntime: &str) -> Arc<Self> {
        let mut registry = Registry::with_prefix("nuke");
        let build = Info::new(vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("onnxruntime", onnxruntime.to_owned()),
        ]);
        registry.register("build", "The versions that run", build);
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            plugin_cpu: Family::default(),
            in_flight: Family::default(),
            responses: Family::default(),
            grpc_responses: Family::default(),
            connections: Gauge::default(),
            states: Family::default(),
            swaps: Family::default(),
            transitions: Family::default(),
            rescans: Counter::default(),
            readable: Gauge::default(),
            waiting: Family::default(),
            workers: Family::default(),
            workers_busy: Family::default(),
            instances: Family::default(),
            instances_created: Family::default(),
            instances_broken: Family::default(),
            front: Arc::default(),
            traffic: TrafficMetrics::default(),
            memory: MemoryMetrics::default(),
            cache: CacheMetrics::default(),
            compute: ComputeMetrics::default(),
            registry: Mutex::new(registry),
            plugins: Mutex::default(),
        };
        metrics.register();
        drop(metrics.grpc_responses.get_or_create(&CodeLabels { code: "OK" }));
        Arc::new(metrics)
    }

    /// What is shown, for series to be added to it.
    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self) {
        let mut registry = self.registry();
        let seconds = Unit::Seconds;
        self.front.register(&mut registry);
        self.traffic.register(&mut registry);
        self.compute.register(&mut registry);
        self.memory.register(&mut registry);
        self.cache.register(&mut registry);
        registry.register(
            "requests",
            "Inference requests by outcome: ok, or the error's code",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "Time of a request by stage; stage total is all of it",
            seconds.clone(),
            self.durations.clone(),
        );
        registry.register_with_unit(
            "plugin_cpu",
            "CPU time in plugins and in the host functions they call",
            seconds,
            self.plugin_cpu.clone(),
        );
        registry.register("requests_in_flight", "Inference requests being served", self.in_flight.clone());
        registry.register("http_responses", "Responses by status, of all routes", self.responses.clone());
        registry.register("grpc_responses", "gRPC calls by status code", self.grpc_responses.clone());
        registry.register("http_connections", "Open connections", self.connections.clone());
        registry.register("model_state", "1 for the state a version is in", self.states.clone());
        registry.register("swaps", "Loads of versions, by outcome", self.swaps.clone());
        registry.register("model_transitions", "Changes of versions into a state", self.transitions.clone());
        registry.register("rescans", "Scans of the models and plugins folders", self.rescans.clone());
        registry.register("repository_readable", "1 if the models folder can be read", self.readable.clone());
        registry.register("queue_requests", "Requests that wait for a worker", self.waiting.clone());
        registry.register("workers", "Workers, each with a session", self.workers.clone());
        registry.register("workers_busy", "Workers that run a model now", self.workers_busy.clone());
        registry.register(
            "plugin_instances",
            "Instances of the plugin, in use or idle",
            self.instances.clone(),
        );
        registry.register(
            "plugin_instances_created",
            "Instances made since the version was loaded",
            self.instances_created.clone(),
        );
        registry.register(
            "plugin_instances_broken",
            "Instances dropped because a call failed or was cancelled",
            self.instances_broken.clone(),
        );
    }

    /// The series of one generation, resolved once.
    pub fn generation(
        self: &Arc<Self>,
        model: &str,
        version: &str,
        plugin: Option<&str>,
    ) -> GenerationMetrics {
        if let Some(plugin) = plugin {
            let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
            plugins.entry((model.to_owned(), version.to_owned())).or_default().insert(plugin.to_owned());
        }
        let labels = VersionLabels::of(model, version);
        let stage = |stage: &'static str| {
            let labels = StageLabels { model: model.to_owned(), version: version.to_owned(), stage };
            self.durations.get_or_create_owned(&labels)
        };
        let cpu = |stage: Stage| {
            plugin.map(|plugin| {
                self.plugin_cpu.get_or_create_owned(&PluginLabels {
                    model: model.to_owned(),
                    version: version.to_owned(),
                    plugin: plugin.to_owned(),
                    stage: stage.as_str(),
                })
            })
        };
        let answered = |endpoint: Endpoint| {
            self.requests.get_or_create_owned(&RequestLabels {
                model: model.to_owned(),
                version: version.to_owned(),
                endpoint: endpoint.as_str(),
                outcome: OK,
            })
        };
        GenerationMetrics {
            answered: Endpoint::ALL.map(answered),
            total: stage("total"),
            stages: Stage::ALL.map(|each| stage(each.as_str())),
            cpu: [cpu(Stage::Preprocess), cpu(Stage::Postprocess)],
            in_flight: self.in_flight.get_or_create_owned(&labels),
            observed: Mutex::default(),
            all: Arc::clone(self),
            labels,
        }
    }

    /// The series of the door.
    pub fn front(&self) -> &Arc<FrontMetrics> {
        &self.front
    }

    /// The series of batches and workers.
    pub fn compute(&self) -> &ComputeMetrics {
        &self.compute
    }

    /// The series of memory, and of versions that are loaded on demand.
    pub fn memory(&self) -> &MemoryMetrics {
        &self.memory
    }

    /// The series of remembered answers.
    pub fn cache(&self) -> &CacheMetrics {
        &self.cache
    }

    /// The series of traffic between versions.
    pub fn traffic(&self) -> &TrafficMetrics {
        &self.traffic
    }

    /// Counts a response of any route.
    pub fn responded(&self, status: u16) {
        self.responses.get_or_create(&StatusLabels { status }).inc();
    }

    /// Counts a gRPC call that ended, or a stream that began, by its status' name.
    pub fn grpc_responded(&self, code: &'static str) {
        self.grpc_responses.get_or_create(&CodeLabels { code }).inc();
    }

    /// Notes that a connection opened (1) or closed (-1).
    pub fn connection(&self, change: i64) {
        self.connections.inc_by(change);
    }

    /// Notes the states of a version: the series of all others go.
    pub fn states(&self, model: &str, version: &str, states: &[&'static str]) {
        for state in STATES {
            let labels = StateLabels { model: model.to_owned(), version: version.to_owned(), state };
            if states.contains(&state) {
                self.states.get_or_create(&labels).set(1);
            } else {
                self.states.remove(&labels);
            }
        }
    }

    /// Notes that a version is gone: what it uses is no longer told. What it has counted stays until it is forgotten.
    pub fn unloaded(&self, model: &str, version: &str) {
        let labels = VersionLabels::of(model, version);
        self.compute.unloaded(model, version);
        self.memory.unloaded(model, version);
        for gauges in [&self.waiting, &self.workers, &self.workers_busy, &self.instances, &self.in_flight] {
            gauges.remove(&labels);
        }
    }

    /// Counts a load: `ok` if its generation is served, `failed` if there is none.
    pub fn swapped(&self, model: &str, outcome: &'static str) {
        self.swaps.get_or_create(&ModelOutcomeLabels { model: model.to_owned(), outcome }).inc();
    }

    /// Counts a version's change into a state.
    pub fn changed_state(&self, model: &str, state: &'static str) {
        self.transitions.get_or_create(&TransitionLabels { model: model.to_owned(), state }).inc();
    }

    /// Counts a scan, and notes whether the models folder could be read.
    pub fn scanned(&self, readable: bool) {
        self.rescans.inc();
        self.readable.set(i64::from(readable));
    }

    /// All series in OpenMetrics' text form, after `observe` has brought those up to date that are only
    /// looked at when they are asked for. One at a time.
    ///
    /// # Errors
    /// When the text cannot be written, which memory alone could prevent.
    pub fn encode(&self, observe: impl FnOnce()) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        let registry = self.registry();
        observe();
        text::encode(&mut out, &registry)?;
        Ok(out)
    }
}
