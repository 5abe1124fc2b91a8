//! What operators ask for: how models stand, and what is to be done with them.
//!
//! Owns the routes below `/admin` and the protocol's loading and unloading, and who may ask for them
//! ([`access`]). It decides nothing: the repository and the traffic do.

pub(crate) mod access;
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
        .route("/v2/logging", get(logging::show).post(logging::change))
        .route("/v2/repository/models/{model}/load", post(control::load))
        .route("/v2/repository/models/{model}/unload", post(control::unload))
}

/// A body that is a JSON object of this form; lists do not pass for one, and no key comes twice.
fn object<T: DeserializeOwned>(body: &[u8], form: &str) -> Result<T, Error> {
    let wrong = |reason: String| Error::invalid(format!("the body is no JSON of the form {form}: {reason}"));
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(wrong("it is no object".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))
}
