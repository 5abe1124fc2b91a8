//! `config.yaml` key by key: the default, the form and the range of each.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::address::ListenAddress;
use super::answers::{self, ServerTiming};
use super::auth_decode;
use super::cache;
use super::device;
use super::limits;
use super::names::{
    Capability, ErrorDetails, HeaderName, LogFilter, LogFormat, Name, Pooling, TrustedKey, Watch,
};
use super::node;
use super::on_demand::{self, OrOff};
use super::quantity::ByteSize;
use super::section::Section;
use super::server::{
    ListenSettings, LogSettings, ModelEntry, PluginSettings, PredictSettings, RepositorySettings,
    RuntimeSettings, ServerConfig, ValidationSettings,
};
use super::setting::{At, Setting};
use super::tls;
use super::tree::{Node, Value};

const SHORTEST: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const GIB4: ByteSize = ByteSize::mib(4096);

/// The most plugin instances, threads and workers that make sense on one machine.
const MOST_PARALLEL: usize = 4096;

/// What defaults depend on.
pub(super) struct Machine {
    /// Cores this process may use.
    cores: usize,
    /// The user's folder for caches, if there is one.
    caches: Option<PathBuf>,
}

impl Machine {
    /// This machine, with the user's folders from these variables.
    pub(super) fn detect(environment: &[(String, String)]) -> Self {
        let variable = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let absolute = |path: &&String| Path::new(path.as_str()).is_absolute();
        let named = variable("XDG_CACHE_HOME").filter(absolute).map(PathBuf::from);
        let home = variable("HOME").filter(absolute).map(|home| Path::new(home).join(".cache"));
        Self { cores: thread::available_parallelism().map_or(1, usize::from), caches: named.or(home) }
    }
}

/// Decodes the whole file.
pub(super) fn decode(section: &mut Section<'_>, machine: &Machine) -> ServerConfig {
    let server = section.section("server", listen);
    let tls = section.section("tls", |section| tls::decode(section, &server));
    let repository = section.section("repository", |section| RepositorySettings {
        models: section.take("models", "./models".into()),
        plugins: section.take("plugins", "./plugins".into()),
        state: section.take("state", None),
        trusted_keys: section
            .take("trusted_keys", Vec::<TrustedKey>::new())
            .into_iter()
            .map(|key| key.0)
            .collect(),
        rescan: section.take_in("rescan", Duration::from_secs(5), Duration::from_millis(100)..=HOUR),
        quiet: section.take_in("quiet", Duration::from_secs(1), Duration::ZERO..=HOUR),
        drain: section.take_in("drain", Duration::from_secs(60), Duration::ZERO..=HOUR),
        watch: section.take("watch", Watch::Auto),
        on_demand: on_demand::of_repository(section),
        memory: section.take_if("memory", OrOff(None), check_memory).0,
        validation: section.section("validation", |section| validation(section, machine)),
    });
    let cache = section.section("cache", cache::decode);
    let has_redis = cache.redis.is_some();
    ServerConfig {
        tls,
        server,
        repository,
        plugins: section.section("plugins", |section| plugins(section, machine)),
        runtime: section.section("runtime", |section| RuntimeSettings {
            ort_lib: section.take("ort_lib", None),
            intra_threads: section.take_in("intra_threads", 1, 1..=MOST_PARALLEL),
        }),
        predict: section.section("predict", predict),
        log: section.section("log", |section| LogSettings {
            format: section.take("format", LogFormat::Auto),
            filter: section.take("filter", LogFilter::info()),
            access: section.take("access", true),
            audit: section.take("audit", None),
        }),
        auth: section.section("auth", |section| auth_decode::auth(section, has_redis)),
        limits: section.section("limits", |section| limits::limits(section, has_redis)),
        cache,
        node: section.section("node", node::decode),
        insecure: section.take("insecure", false),
        models: models(section),
    }
}

fn validation(section: &mut Section<'_>, machine: &Machine) -> ValidationSettings {
    let verdicts = machine.caches.as_ref().map(|caches| caches.join("nuke").join("validated"));
    ValidationSettings {
        enabled: section.take("enabled", true),
        memory: section.take_in("memory", GIB4, ByteSize::mib(256)..=ByteSize::mib(16 << 20)),
        time: section.take_in("time", Duration::from_secs(60), Duration::from_millis(100)..=HOUR),
        verdicts: section.take("verdicts", CacheFolder(verdicts)).0,
    }
}

fn check_memory(memory: &OrOff<ByteSize>) -> Result<(), String> {
    let least = ByteSize::mib(1);
    match memory.0 {
        Some(memory) if memory < least => Err(format!("expected {least} or more, or off, got {memory}")),
        _ => Ok(()),
    }
}

fn listen(section: &mut Section<'_>) -> ListenSettings {
    let seconds = Duration::from_secs;
    let http = section.take("http", ListenAddress::loopback(8080));
    let https = section.take("https", None);
    let max_body = section.take_in("max_body", ByteSize::mib(64), ByteSize::bytes(1)..=GIB4);
    ListenSettings {
        http,
        redirect: section.take_if("redirect", false, |redirect| match (redirect, &https) {
            (true, None::<ListenAddress>) => Err("needs server.https, which is not set".to_owned()),
            _ => Ok(()),
        }),
        https,
        grpc: section.take("grpc", None),
        admin: section.take("admin", None),
        max_connections: section.take_in("max_connections", 4096, 1..=1_000_000),
        max_connections_per_address: section.take_in("max_connections_per_address", 0, 0..=1_000_000),
        max_streams: section.take_in("max_streams", 256, 1..=100_000),
        max_header_size: section.take_in(
            "max_header_size",
            ByteSize::kib(64),
            ByteSize::kib(4)..=ByteSize::kib(256),
        ),
        max_headers: section.take_in("max_headers", 100, 10..=1000),
        header_timeout: section.take_in("header_timeout", seconds(10), SHORTEST..=HOUR),
        idle_timeout: section.take_in("idle_timeout", seconds(75), SHORTEST..=DAY),
        body_timeout: section.take_in("body_timeout", seconds(10), SHORTEST..=HOUR),
        write_timeout: section.take_in("write_timeout", seconds(30), SHORTEST..=HOUR),
        drain_delay: section.take_in("drain_delay", Duration::ZERO, Duration::ZERO..=HOUR),
        drain_timeout: section.take_in("drain_timeout", seconds(30), Duration::ZERO..=DAY),
        max_memory: section.take_if("max_memory", ByteSize::mib(1024).max(with_room(max_body)), |memory| {
            if *memory >= with_room(max_body) {
                return Ok(());
            }
            Err("expected at least 1MiB more than server.max_body".to_owned())
        }),
        max_body,
        error_details: section.take("error_details", ErrorDetails::Local),
        max_message: section.take_if("max_message", None, |size: &Option<ByteSize>| match size {
            Some(size) if !(ByteSize::bytes(1)..=GIB4).contains(size) => {
                Err(format!("expected 1 to {}, got {}", GIB4.show(), size.show()))
            }
            _ => Ok(()),
        }),
        request_timeout: section.take_in("request_timeout", seconds(60), SHORTEST..=DAY),
        compression: section.section("compression", answers::compression),
        cors: section.section("cors", answers::cors),
        server_timing: section.take("server_timing", ServerTiming::Off),
    }
}

/// A body, and the rest of its request.
fn with_room(body: ByteSize) -> ByteSize {
    ByteSize::bytes(body.as_u64() + ByteSize::mib(1).as_u64())
}

fn plugins(section: &mut Section<'_>, machine: &Machine) -> PluginSettings {
    let cores = machine.cores.clamp(1, MOST_PARALLEL / 2);
    let cache = machine.caches.as_ref().map(|caches| caches.join("nuke").join("compiled"));
    let (kib, mib) = (ByteSize::kib(1), ByteSize::mib(64));
    PluginSettings {
        time: section.take_in("time", Duration::from_millis(500), SHORTEST..=HOUR),
        memory: section.take_in("memory", ByteSize::mib(256), ByteSize::kib(64)..=GIB4),
        output: section.take_in("output", mib, kib..=GIB4),
        log: section.take_in("log", ByteSize::kib(64), ByteSize::bytes(0)..=mib),
        component_size: section.take_in("component_size", mib, kib..=ByteSize::mib(1024)),
        instances: section.take_in("instances", (2 * cores).max(2), 1..=MOST_PARALLEL),
        calls_per_instance: section.take_in("calls_per_instance", 10_000, 1..=1_000_000_000_000),
        idle: section.take_in("idle", Duration::from_secs(60), Duration::ZERO..=DAY),
        threads: section.take_in("threads", cores, 1..=MOST_PARALLEL),
        pixels: section.take_in("pixels", 67_108_864, 1..=u32::MAX),
        files: section.take_in("files", mib, ByteSize::bytes(0)..=ByteSize::mib(64 << 10)),
        pooling: section.take("pooling", Pooling::Auto),
        compile_cache: section.take("compile_cache", CacheFolder(cache)).0,
        allow: section.take_if("allow", Capability::ALL.to_vec(), |list| each_once(list, |one| one.as_str())),
    }
}

fn predict(section: &mut Section<'_>) -> PredictSettings {
    let default = ["accept", "accept-language", "content-language"];
    let default = default.map(|name| HeaderName(name.to_owned())).to_vec();
    let headers = section.take_if("headers", default, |list| each_once(list, |name| &name.0));
    PredictSettings { headers: headers.into_iter().map(|name| name.0).collect() }
}

fn models(section: &mut Section<'_>) -> Vec<ModelEntry> {
    let mut seen: Vec<(String, String)> = Vec::new();
    let entries = section.sections("models", |section| {
        let name = section.require::<Name>("name");
        let path = section.require("path");
        let version = section.take("version", Name("1".to_owned())).0;
        let max_workers = section.take_if("max_workers", None, |workers: &Option<usize>| match workers {
            Some(workers) if !(1..=MOST_PARALLEL).contains(workers) => {
                Err(format!("expected 1 to {MOST_PARALLEL}, got {workers}"))
            }
            _ => Ok(()),
        });
        let gpu_id = section.take_if("gpu_id", None, |number: &Option<u32>| device::check_gpu(*number));
        let (name, path) = (name?.0, path?);
        let key = (name.clone(), version.clone());
        if seen.contains(&key) {
            let place = section.place().clone();
            let message = format!("version '{version}' of '{name}' is listed twice; keep one");
            section.problem("name", &place, message);
        }
        seen.push(key);
        Some(ModelEntry { name, path, version, max_workers, gpu_id })
    });
    entries.into_iter().flatten().collect()
}

/// Refuses a list that names one thing twice.
fn each_once<T>(list: &[T], name: impl Fn(&T) -> &str) -> Result<(), String> {
    let twice =
        list.iter().enumerate().find(|(at, one)| list.iter().take(*at).any(|other| name(other) == name(one)));
    twice.map_or(Ok(()), |(_, one)| Err(format!("'{}' is listed twice; keep one", name(one))))
}

/// A folder, or `off`.
struct CacheFolder(Option<PathBuf>);

impl Setting for CacheFolder {
    fn expected() -> String {
        "a folder's path, or off".to_owned()
    }

    fn read(node: &Node, at: &mut At<'_>) -> Option<Self> {
        match &node.value {
            Value::Scalar { text, .. } if text == "off" => Some(Self(None)),
            _ => PathBuf::read(node, at).map(|path| Self(Some(path))),
        }
    }

    fn show(&self) -> String {
        self.0.as_ref().map_or_else(|| "off".to_owned(), PathBuf::show)
    }
}
