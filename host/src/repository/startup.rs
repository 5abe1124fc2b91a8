//! One load of everything, for `nuke check`.
//!
//! Owns how many versions load at once. A version that fails is listed with its reason and stops
//! nobody.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::index::ModelIndex;
use super::layout::VersionSource;
use super::load::Loader;
use super::status::{LoadFailure, VersionStatus};
use crate::haste::Haste;

/// Loads all sources, a few at a time, and lists each as it becomes ready or fails. Returns how many
/// are ready and how many failed.
pub async fn load_all(
    loader: &Arc<Loader>,
    index: &Arc<ModelIndex>,
    sources: Vec<VersionSource>,
) -> (usize, usize) {
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let slots = Arc::new(Semaphore::new(at_once));
    let mut loads = JoinSet::new();
    for source in sources {
        index.set(&source.model, &source.version, &VersionStatus::Discovered);
        let (loader, index, slots) = (Arc::clone(loader), Arc::clone(index), Arc::clone(&slots));
        loads.spawn(async move {
            let _slot = slots.acquire_owned().await;
            let (model, version) = (source.model.clone(), source.version.clone());
            let shared = Arc::clone(&index);
            let loading = tokio::task::spawn_blocking(move || load_one(&loader, &index, &source));
            loading.await.unwrap_or_else(|error| {
                tracing::error!(%model, %version, %error, "the loader itself failed");
                let reason = "the loader itself failed; see the host's log".to_owned();
                shared.set(&model, &version, &VersionStatus::Failed(LoadFailure::now(reason)));
                false
            })
        });
    }
    let outcomes = loads.join_all().await;
    let ready = outcomes.iter().filter(|&&ready| ready).count();
    (ready, outcomes.len() - ready)
}

fn load_one(loader: &Loader, index: &ModelIndex, source: &VersionSource) -> bool {
    let (model, version) = (source.model.as_str(), source.version.as_str());
    let started = Instant::now();
    let status = match loader.load(source, Haste::Now, &|_| ()) {
        Ok(generation) => VersionStatus::Ready(Arc::new(generation)),
        Err(reason) => VersionStatus::Failed(LoadFailure::now(reason)),
    };
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match &status {
        VersionStatus::Failed(failure) => {
            tracing::error!(model, version, reason = %failure.reason, "the version cannot be served")
        }
        _ => tracing::info!(model, version, took_ms, "the version is ready"),
    }
    index.set(model, version, &status);
    matches!(status, VersionStatus::Ready(_))
}
