//! `nuke serve`.
//!
//! Owns the life of a server: configure, listen, load, serve, drain. Listening comes before loading,
//! so that liveness answers while readiness waits.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::flags::HostFlags;
use super::{EXIT_INTERRUPTED, Failure, host};
use crate::config::ServerConfig;
use crate::http::{self, Lifecycle, Listener};
use crate::repository::{Keeper, KeeperError, Loader, ModelIndex};
use crate::telemetry::start_logging;

pub(super) fn run(flags: &HostFlags) -> ExitCode {
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
    let served = runtime.block_on(serve(config, loader));
    if served.is_ok() {
        drop(log);
        // Loads and models that still run must not meet ONNX Runtime's destructors: no exit handlers.
        signal_hook::low_level::exit(0);
    }
    runtime.shutdown_background();
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve(config: &ServerConfig, loader: Arc<Loader>) -> Result<(), Failure> {
    let (index, lifecycle) = (Arc::new(ModelIndex::default()), Arc::new(Lifecycle::default()));
    let state =
        host::app_state(config, Arc::clone(&index), Arc::clone(&loader.metrics), Arc::clone(&lifecycle))?;
    let (host_name, port) = (config.server.http.host(), config.server.http.port());
    let listener =
        Listener::bind((&host_name, port), host::listener_options(config), Arc::clone(&loader.metrics)).await;
    let listener = listener
        .map_err(|error| Failure::unavailable(format!("cannot listen on {host_name}:{port}: {error}")))?;
    let address = listener.address().map_err(Failure::unavailable)?;
    let keeper = Keeper::open(Arc::clone(&loader), index, host::keeper_options(config));
    let keeper = keeper.map_err(|error| match error {
        KeeperError::Unreadable(_) => Failure::config(error),
        KeeperError::Unwatchable(_) => Failure::unavailable(error),
    })?;
    tracing::info!(
        %address,
        models = %config.repository.models.display(),
        onnxruntime = %loader.runtime.library().display(),
        pooled = loader.engine.pooled(),
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );

    let loading = Arc::clone(&lifecycle);
    tokio::spawn(keeper.run(move |ready, failed| {
        loading.set_loaded();
        tracing::info!(ready, failed, "all versions have been loaded or have failed");
    }));
    let drained = listener.serve(http::router(state), stop_signal(lifecycle)?).await;
    if drained {
        tracing::info!("stopped: all requests were answered");
    } else {
        tracing::warn!("stopped: requests were still in flight after server.drain_timeout");
    }
    Ok(())
}

/// Completes at the first SIGTERM or SIGINT, after readiness has gone; a second one ends the process.
fn stop_signal(lifecycle: Arc<Lifecycle>) -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::unavailable)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::unavailable)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        lifecycle.set_draining();
        tracing::info!("draining: new connections are refused, requests in flight finish");
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            signal_hook::low_level::exit(i32::from(EXIT_INTERRUPTED));
        });
    })
}
