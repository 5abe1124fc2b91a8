//! `nuke serve`.
//!
//! Owns the life of a server: configure, listen, load, serve, drain. Listening comes before loading,
//! so that liveness answers while readiness waits.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::flags::HostFlags;
use super::listeners::Listeners;
use super::nodes::Fleet;
use super::{EXIT_INTERRUPTED, Failure, host};
use crate::auth::{Authority, Gate, SharedKeys, follow_api_keys, note_shared_use, share_limits};
use crate::config::ServerConfig;
use crate::http::{Control, Lifecycle};
use crate::memory;
use crate::repository::{Keeper, KeeperError, Loader, ModelIndex, Steering};
use crate::store::Store;
use crate::telemetry::{LogControl, Metrics, start_logging};

pub(super) fn run(flags: &HostFlags) -> ExitCode {
    memory::bound_arenas();
    match prepare(flags) {
        Ok(Some(config)) => serve_blocking(&config).unwrap_or_else(|failure| failure.report()),
        Ok(None) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// The configuration to serve with; `None` if it was only to be printed.
fn prepare(flags: &HostFlags) -> Result<Option<ServerConfig>, Failure> {
    let loaded = flags.load()?;
    if flags.print_config {
        println!("{}", loaded.report.to_yaml().trim_end());
        return Ok(None);
    }
    loaded.check_exposure().map_err(Failure::config)?;
    Ok(Some(loaded.value))
}

fn serve_blocking(config: &ServerConfig) -> Result<ExitCode, Failure> {
    let log = start_logging(&host::log_options(config)).map_err(Failure::config)?;
    let loader = Arc::new(host::loader(config)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("nuke-http").enable_all().build();
    let runtime = runtime.map_err(Failure::unavailable)?;
    let served = runtime.block_on(serve(config, loader, log.control()));
    if served.is_ok() {
        drop(log);
        // Loads and models that still run must not meet ONNX Runtime's destructors: no exit handlers.
        signal_hook::low_level::exit(0);
    }
    runtime.shutdown_background();
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve(config: &ServerConfig, loader: Arc<Loader>, log: LogControl) -> Result<(), Failure> {
    let authority = Arc::new(Authority::open(&config.auth).map_err(Failure::config)?);
    let store = host::store(config, &loader.metrics)?;
    let decisions = host::decisions(config);
    let (index, lifecycle) =
        (Arc::new(ModelIndex::new(Arc::clone(&decisions))), Arc::new(Lifecycle::default()));
    let listeners = Listeners::open(config, &loader).await?;
    let fleet =
        Fleet::open(config, (store.clone(), &loader.metrics), &listeners, (&index, &decisions), &lifecycle)
            .await;
    let keeper = Keeper::open(
        Arc::clone(&loader),
        Arc::clone(&index),
        host::keeper_options(config, Arc::clone(&decisions)),
    );
    let keeper = keeper.map_err(|error| match error {
        KeeperError::Unreadable(_) => Failure::config(error),
        KeeperError::Unwatchable(_) => Failure::unavailable(error),
    })?;
    let metrics = Arc::clone(&loader.metrics);
    let steering = Steering::new(Arc::clone(&index), decisions, Arc::clone(&metrics), fleet.sharing.clone());
    let nodes = Arc::clone(&fleet.nodes);
    let control = Control { keeper: keeper.handle(), steering: steering.clone(), nodes };
    authority.follow(&host::audit(config)).map_err(Failure::unavailable)?;
    let gate = host::gate(config, Arc::clone(&authority));
    let shared_keys = share(config, store.as_ref(), &authority, &gate, &metrics);
    let memory = listeners.memory.clone();
    let cache = host::cache(config, store.as_ref(), &metrics);
    tokio::spawn(cache.clone().follow());
    let counted = (Arc::clone(&metrics), cache);
    let state =
        host::app_state(config, index, counted, Arc::clone(&lifecycle), control, (log, memory), gate)?;
    tracing::info!(
        address = %listeners.address,
        https = listeners.https_address.map(tracing::field::display),
        grpc = listeners.grpc_address.map(tracing::field::display),
        admin = listeners.admin_address.map(tracing::field::display),
        models = %config.repository.models.display(),
        onnxruntime = %loader.runtime.library().display(),
        pooled = loader.engine.pooled(),
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );

    let loading = Arc::clone(&lifecycle);
    tokio::spawn(steering.clone().run());
    fleet.start(keeper.handle());
    tokio::spawn(keeper.run(move |ready, failed| {
        loading.set_loaded();
        tracing::info!(ready, failed, "all versions have been loaded or have failed");
    }));
    let doors = host::doors(config, &state)?;
    let stop = stop_signal(lifecycle, config.server.drain_delay)?;
    let drained = listeners.serve(config, doors, stop).await;
    if let Err(reason) = tokio::task::block_in_place(|| steering.save()) {
        tracing::warn!(%reason, "what traffic must remember is not kept");
    }
    fleet.leave().await;
    tokio::task::block_in_place(|| authority.note_used());
    if let Some(keys) = shared_keys
        && let Err(error) = note_shared_use(&authority, &keys).await
    {
        tracing::warn!(%error, "when API keys were used last is not noted in redis");
    }
    if drained {
        tracing::info!("stopped: all requests were answered");
    } else {
        tracing::warn!("stopped: requests were still in flight after server.drain_timeout");
    }
    Ok(())
}

/// Begins to share with other nodes what is to be shared: API keys, which are returned then, and limits.
fn share(
    config: &ServerConfig,
    store: Option<&Store>,
    authority: &Arc<Authority>,
    gate: &Gate,
    metrics: &Metrics,
) -> Option<SharedKeys> {
    let store = store?;
    let metrics = metrics.shared_auth();
    tokio::spawn(share_limits(Arc::clone(gate.limits()), store.clone(), metrics.clone()));
    if !config.auth.api_keys.redis {
        return None;
    }
    let keys = SharedKeys::new(store.clone());
    let following = follow_api_keys(Arc::downgrade(authority), keys.clone(), host::audit(config), metrics);
    tokio::spawn(following);
    Some(keys)
}

/// Becomes true `delay` after the first SIGTERM or SIGINT, at which readiness goes; a second one ends the process.
fn stop_signal(lifecycle: Arc<Lifecycle>, delay: Duration) -> Result<watch::Receiver<bool>, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::unavailable)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::unavailable)?;
    let (sender, stop) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        lifecycle.set_draining();
        tracing::info!("draining: the server is not ready any more");
        let told_again = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let close = async {
            tokio::time::sleep(delay).await;
            tracing::info!("new connections are refused, requests in flight finish");
            lifecycle.set_stopping();
            sender.send_replace(true);
            // What is left is the drain's.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = told_again => {}
            () = close => {}
        }
        signal_hook::low_level::exit(i32::from(EXIT_INTERRUPTED));
    });
    Ok(stop)
}
