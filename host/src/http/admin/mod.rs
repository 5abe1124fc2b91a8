//! What operators ask for: how models stand, and what is to be done with them.
//!
//! Owns the routes below `/admin` and the protocol's loading and unloading, and who may ask for them
//! ([`access`]). It decides nothing: the repository and the traffic do.

pub(super) mod access;
mod control;
mod models;

pub use access::AdminAccess;

use axum::Router;
use axum::routing::{get, post};

use super::state::AppState;

/// All of them, without a guard.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/admin/models", get(models::all))
        .route("/admin/models/{model}", get(models::one))
        .route("/v2/repository/models/{model}/load", post(control::load))
        .route("/v2/repository/models/{model}/unload", post(control::unload))
}
