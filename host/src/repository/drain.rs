//! The end of a generation: it waits for the requests that still use it, and is freed where that hurts nobody.
//!
//! Owns when a generation is dropped, and on which thread: never on a request's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::scan::Key;
use crate::pipeline::Generation;

/// How often a generation that was let go is asked whether a request still uses it.
const POLL: Duration = Duration::from_millis(50);

/// Waits until no request uses a generation, then frees it. That it is held here is what keeps a request's own
/// thread from dropping it. After `patience` the log says that it is still held.
pub(super) async fn drain(key: Key, mut generation: Arc<Generation>, patience: Duration) -> Key {
    let (began, mut has_told) = (Instant::now(), false);
    let last = loop {
        match Arc::try_unwrap(generation) {
            Ok(last) => break last,
            Err(shared) => generation = shared,
        }
        if began.elapsed() >= patience && !std::mem::replace(&mut has_told, true) {
            tracing::warn!(
                model = key.0,
                version = key.1,
                requests = Arc::strong_count(&generation) - 1,
                "requests still use a generation after repository.drain: it stays in memory until they end"
            );
        }
        tokio::time::sleep(POLL).await;
    };
    free(last).await;
    key
}

/// Frees a generation on a blocking thread: sessions and a plugin's memory take their time.
pub(super) async fn free(generation: Generation) {
    let (model, version) = (generation.model().to_owned(), generation.version().to_owned());
    let freeing = tokio::task::spawn_blocking(move || generation.free());
    match freeing.await {
        Ok(()) => tracing::debug!(model, version, "a generation was freed"),
        Err(error) => tracing::error!(model, version, %error, "a generation could not be freed"),
    }
}
