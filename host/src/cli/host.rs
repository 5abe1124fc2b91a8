//! The parts of a host, put together from the configuration.
//!
//! Owns the mapping from the configuration's values to each part's options: the only place that knows
//! both.

use std::sync::Arc;

use super::Failure;
use crate::auth::{Authority, Gate, Limits};
use crate::cache::{Cache, Remote};
use crate::config::{
    ByteSize, ClientAuth, ListenAddress, LogFormat, Pooling, ServerConfig, ServerTiming, TlsVersion,
    ValidationSettings,
};
use crate::grpc::{Place, grpc_router};
use crate::http::{
    self, AdminAccess, AnswerOptions, AppParts, AppState, BodyBounds, Control, CorsRules, Door, Lanes,
    Lifecycle, ListenerOptions, MemoryBudget, RequestLimits, TlsOptions,
};
use crate::model::{Runtime, RuntimeOptions};
use crate::plugin::{EngineOptions, PluginEngine, PluginLimits};
use crate::repository::{
    Decisions, KeeperOptions, Loader, LoaderOptions, ModelIndex, TrustedKeys, ValidationOptions,
};
use crate::scheduler::Budget;
use crate::store::Store;
use crate::telemetry::{Audit, LogControl, LogOptions, Metrics};
use crate::tls::{Certificates, ServerOptions};

/// What loads and runs versions.
pub(super) fn loader(config: &ServerConfig) -> Result<Loader, Failure> {
    let keys = TrustedKeys::parse(config.repository.trusted_keys.iter().map(String::as_str));
    let keys = keys.map_err(Failure::config)?;
    let runtime = Runtime::start(RuntimeOptions {
        library: config.runtime.ort_lib.clone(),
        intra_threads: config.runtime.intra_threads,
    });
    let engine = PluginEngine::new(&EngineOptions {
        threads: config.plugins.threads,
        pooling: match config.plugins.pooling {
            Pooling::Auto => None,
            Pooling::On => Some(true),
            Pooling::Off => Some(false),
        },
        memory: config.plugins.memory.as_usize(),
        compile_cache: config.plugins.compile_cache.clone(),
        image_files: true,
    });
    Ok(Loader {
        runtime: Arc::new(runtime.map_err(Failure::unavailable)?),
        engine: Arc::new(engine.map_err(Failure::unavailable)?),
        metrics: Metrics::new(Runtime::build_info()),
        budget: Budget::of_this_machine(config.runtime.intra_threads),
        given_up: Arc::default(),
        options: LoaderOptions {
            plugins: config.repository.plugins.clone(),
            limits: plugin_limits(config),
            allow: config.plugins.allow.clone(),
            files: config.plugins.files.as_usize(),
            keys,
            validation: validation(&config.repository.validation),
        },
    })
}

fn validation(settings: &ValidationSettings) -> Option<ValidationOptions> {
    settings.enabled.then(|| ValidationOptions {
        memory: settings.memory.as_u64(),
        time: settings.time,
        verdicts: settings.verdicts.clone(),
    })
}

/// The storage that nodes share, if there is one. It connects in the background of the runtime.
pub(super) fn store(config: &ServerConfig, metrics: &Metrics) -> Result<Option<Store>, Failure> {
    let Some(redis) = &config.cache.redis else { return Ok(None) };
    Store::open(redis, &config.cache.namespace, metrics.redis()).map(Some).map_err(Failure::config)
}

pub(super) fn decisions(config: &ServerConfig) -> Arc<Decisions> {
    Arc::new(Decisions::open(&config.repository.models, config.repository.state.as_deref()))
}

pub(super) fn keeper_options(config: &ServerConfig, decisions: Arc<Decisions>) -> KeeperOptions {
    KeeperOptions {
        models: config.repository.models.clone(),
        listed: config.models.clone(),
        decisions,
        rescan: config.repository.rescan,
        quiet: config.repository.quiet,
        drain: config.repository.drain,
        watch: config.repository.watch,
        on_demand: config.repository.on_demand,
        memory: config.repository.memory.map(ByteSize::as_u64),
    }
}

fn plugin_limits(config: &ServerConfig) -> PluginLimits {
    let plugins = &config.plugins;
    PluginLimits {
        time: plugins.time,
        memory: plugins.memory.as_usize(),
        output: plugins.output.as_usize(),
        log: plugins.log.as_usize(),
        component_size: plugins.component_size.as_usize(),
        instances: plugins.instances,
        calls_per_instance: plugins.calls_per_instance,
        idle: plugins.idle,
        pixels: plugins.pixels,
    }
}

pub(super) fn log_options(config: &ServerConfig) -> LogOptions {
    LogOptions {
        json: match config.log.format {
            LogFormat::Auto => None,
            LogFormat::Pretty => Some(false),
            LogFormat::Json => Some(true),
        },
        filter: config.log.filter.as_str().to_owned(),
    }
}

/// Where actions of operators, and changes of keys, are told.
pub(super) fn audit(config: &ServerConfig) -> Audit {
    Audit::new(config.log.audit.clone())
}

/// What requests may hold in memory, over all listeners.
pub(super) fn memory(config: &ServerConfig) -> MemoryBudget {
    MemoryBudget::new(config.server.max_memory.as_usize())
}

/// The answers that are remembered.
pub(super) fn cache(config: &ServerConfig, store: Option<&Store>, metrics: &Metrics) -> Cache {
    let remote = store.map(|store| Remote::new(store.clone()));
    Cache::new(config.cache.memory.as_u64(), remote, metrics.cache().clone())
}

/// The bounds of a listener, without TLS.
pub(super) fn listener_options(
    config: &ServerConfig,
    memory: &MemoryBudget,
    lanes: Lanes,
) -> ListenerOptions {
    let server = &config.server;
    ListenerOptions {
        max_connections: server.max_connections,
        max_connections_per_address: server.max_connections_per_address,
        max_streams: server.max_streams,
        header_timeout: server.header_timeout,
        idle_timeout: server.idle_timeout,
        write_timeout: server.write_timeout,
        drain_timeout: server.drain_timeout,
        requests: RequestLimits {
            max_header_size: server.max_header_size.as_usize(),
            max_headers: server.max_headers,
            memory: memory.clone(),
        },
        tls: None,
        lanes,
    }
}

/// How listeners speak TLS; `None` if none does.
pub(super) fn tls_options(config: &ServerConfig, metrics: &Metrics) -> Result<Option<TlsOptions>, Failure> {
    let tls = &config.tls;
    if config.server.https.is_none() && !tls.admin && !tls.grpc {
        return Ok(None);
    }
    let (Some(cert), Some(key)) = (tls.cert.clone(), tls.key.clone()) else {
        return Err(Failure::config("tls.cert and tls.key are missing"));
    };
    let options = ServerOptions {
        cert,
        key,
        client_ca: tls.client_ca.clone(),
        client_required: tls.client_auth == ClientAuth::Required,
        client_crl: tls.client_crl.clone(),
        only_tls13: tls.min_version == TlsVersion::V13,
    };
    let certificates = Certificates::open(options, Arc::clone(metrics.front()) as _);
    let certificates = certificates.map_err(|error| Failure::config(format!("tls: {error}")))?;
    let (handshake_timeout, max_handshakes) = (tls.handshake_timeout, tls.max_handshakes);
    Ok(Some(TlsOptions { certificates, handshake_timeout, max_handshakes }))
}

/// The way in for every request.
pub(super) fn gate(config: &ServerConfig, authority: Arc<Authority>) -> Gate {
    let limits = Limits::new(&config.limits, config.server.max_body.as_usize());
    Gate::new(authority, limits, config.limits.trusted_proxies.clone())
}

pub(super) fn app_state(
    config: &ServerConfig,
    index: Arc<ModelIndex>,
    (metrics, cache): (Arc<Metrics>, Cache),
    lifecycle: Arc<Lifecycle>,
    control: Control,
    (log, memory): (LogControl, MemoryBudget),
    gate: Gate,
) -> Result<AppState, Failure> {
    let header = |name: &String| {
        ::http::HeaderName::try_from(name.as_str())
            .map_err(|_| Failure::config(format!("predict.headers: '{name}' is no header name")))
    };
    let admin = match &config.server.admin {
        Some(address) => {
            AdminAccess::Own { address: address.to_string(), is_loopback: address.is_loopback() }
        }
        None if is_near(config) => AdminAccess::Shared { is_loopback: true },
        None if config.auth.is_configured() => AdminAccess::Shared { is_loopback: false },
        None => AdminAccess::Off,
    };
    let cors = &config.server.cors;
    let cors = CorsRules::new(&cors.origins, &cors.methods, &cors.headers, cors.max_age);
    Ok(AppState::new(AppParts {
        index,
        metrics,
        cache,
        lifecycle,
        control,
        admin,
        gate,
        audit: audit(config),
        max_body: config.server.max_body.as_usize(),
        bodies: BodyBounds { memory, pace: config.server.body_timeout },
        error_details: config.server.error_details,
        max_message: config.server.max_message.unwrap_or(config.server.max_body).as_usize(),
        request_timeout: config.server.request_timeout,
        idle_timeout: config.server.idle_timeout,
        forwarded_headers: config.predict.headers.iter().map(header).collect::<Result<_, _>>()?,
        access_log: config.log.access,
        compression: AnswerOptions {
            enabled: config.server.compression.answers,
            min_size: config.server.compression.min_size.as_usize(),
        },
        cors: cors.map_err(Failure::config)?,
        server_timing: match config.server.server_timing {
            ServerTiming::Off => http::ServerTiming::Off,
            ServerTiming::Asked => http::ServerTiming::Asked,
            ServerTiming::On => http::ServerTiming::On,
        },
        log,
    }))
}

/// Whether only this machine can reach the listeners of all requests.
fn is_near(config: &ServerConfig) -> bool {
    let server = &config.server;
    server.http.is_loopback() && server.https.as_ref().is_none_or(ListenAddress::is_loopback)
}

/// What each listener serves.
pub(super) struct Doors {
    /// At `server.http`.
    pub(super) everyone: Door,
    /// At `server.grpc`, if there is one.
    pub(super) grpc: Door,
    /// At `server.admin`, if there is one.
    pub(super) operators: Door,
}

pub(super) fn doors(config: &ServerConfig, state: &AppState) -> Result<Doors, Failure> {
    let grpc = |place: Place| grpc_router(state.clone(), place).map_err(Failure::unavailable);
    let everyone = |is_loopback: bool| grpc(Place::Everyone { is_loopback });
    let server = &config.server;
    let rest = http::router(state.clone());
    let operators = Door::both(http::admin_router(state.clone()), grpc(Place::Operators)?);
    Ok(match &server.grpc {
        Some(address) => Doors {
            everyone: Door::rest(rest),
            grpc: Door::grpc(everyone(address.is_loopback())?),
            operators,
        },
        None => {
            let grpc = everyone(is_near(config))?;
            Doors { everyone: Door::both(rest, grpc.clone()), grpc: Door::grpc(grpc), operators }
        }
    })
}
