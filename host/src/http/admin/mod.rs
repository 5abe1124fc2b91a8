//! What operators ask for: how models stand, and what is to be done with them.
//!
//! Owns the routes below `/admin` and the protocol's loading and unloading, and who may ask for them
//! ([`access`]). It decides nothing: the repository and the traffic do.

pub(crate) mod access;
pub(super) mod cache;
pub(crate) mod control;
pub(super) mod logging;
pub(super) mod models;
pub(super) mod nodes;
pub(super) mod traffic;

pub use access::AdminAccess;

use axum::Router;
use axum::routing::{get, post};

use serde::de::DeserializeOwned;

use super::state::AppState;
use crate::error::Error;

/// All of them, without a guard.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/admin/nodes", get(nodes::all))
        .route("/admin/models", get(models::all))
        .route("/admin/models/{model}", get(models::one))
        .route("/admin/models/{model}/traffic", get(traffic::show).put(traffic::set).delete(traffic::clear))
        .route("/admin/models/{model}/traffic/switch", post(traffic::switch))
        .route("/admin/models/{model}/feedback", post(traffic::feedback))
        .route("/admin/models/{model}/rollout/{action}", post(traffic::rollout))
        .route("/admin/models/{model}/cache", get(cache::one).delete(cache::purge_one))
        .route("/admin/cache", get(cache::all).delete(cache::purge_all))
        .route("/v2/logging", get(logging::show).post(logging::change))
        .route("/v2/repository/models/{model}/load", post(control::load))
        .route("/v2/repository/models/{model}/unload", post(control::unload))
}

/// Does what an operator asks for to its end: a client that goes away takes nothing back, and leaves nothing half done.
async fn to_its_end<T: Send + 'static>(
    what: &str,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::spawn(work).await;
    done.map_err(|error| Error::internal(format!("the {what} itself failed: {error}")))
}

/// A body that is a JSON object of this form; lists do not pass for one, and no key comes twice.
fn object<T: DeserializeOwned>(body: &[u8], form: &str) -> Result<T, Error> {
    let wrong = |reason: String| Error::invalid(format!("the body is no JSON of the form {form}: {reason}"));
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(wrong("it is no object".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))
}
