//! What operators ask for: how models stand, and what is to be done with them.
//!
//! Owns the routes below `/admin` and the protocol's loading and unloading, and who may ask for them
//! ([`access`]). It decides nothing: the repository and the traffic do.

pub(super) mod access;
mod control;
mod models;
mod traffic;

pub use access::AdminAccess;

use axum::Router;
use axum::routing::{get, post};

use super::state::AppState;

/// All of them, without a guard.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/admin/models", get(models::all))
        .route("/admin/models/{model}", get(models::one))
        .route("/admin/models/{model}/traffic", get(traffic::show).put(traffic::set).delete(traffic::clear))
        .route("/admin/models/{model}/traffic/switch", post(traffic::switch))
        .route("/admin/models/{model}/feedback", post(traffic::feedback))
        .route("/admin/models/{model}/rollout/{action}", post(traffic::rollout))
        .route("/v2/repository/models/{model}/load", post(control::load))
        .route("/v2/repository/models/{model}/unload", post(control::unload))
}
