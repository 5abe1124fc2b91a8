//! `GET /admin/models[/{model}]`: how every version stands.
//!
//! Owns the JSON of these answers.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::config::Isolation;
use crate::error::{Error, ErrorCode, shown};
use crate::http::openapi::schemas;
use crate::http::reply;
use crate::http::state::AppState;
use crate::http::target::WholeModel;
use crate::repository::{Model, VersionStatus};
use crate::timestamp::timestamp;

#[utoipa::path(
    get,
    path = "/admin/models",
    tag = "admin",
    responses((status = 200, description = "answered", body = schemas::AdminModels))
)]
pub(in crate::http) async fn all(State(state): State<AppState>) -> Response {
    let all = state.index().all();
    let models: Vec<_> = all.iter().map(|(name, found)| model(name, found)).collect();
    reply::ok(&json!({"models": models}))
}

#[utoipa::path(
    get,
    path = "/admin/models/{model}",
    tag = "admin",
    params(("model" = String, Path, description = "the model's name")),
    responses((status = 200, description = "answered", body = schemas::AdminModel))
)]
pub(in crate::http) async fn one(
    State(state): State<AppState>,
    target: WholeModel,
) -> Result<Response, Error> {
    let all = state.index().all();
    let (name, found) = all.get_key_value(&target.model).ok_or_else(|| unknown(&target.model))?;
    Ok(reply::ok(&model(name, found)))
}

/// A model that is not there, in the protocol's words.
pub(super) fn unknown(model: &str) -> Error {
    let name = shown(model, 200);
    Error::new(ErrorCode::NotFound, format!("Request for unknown model: '{name}' is not found"))
}

fn model(name: &str, found: &Model) -> Value {
    let versions: Vec<_> = found.versions.iter().map(|(version, status)| entry(version, status)).collect();
    json!({"name": name, "versions": versions, "traffic": found.traffic.status()})
}

fn entry(version: &str, status: &VersionStatus) -> Value {
    let mut entry = json!({"version": version, "state": status.as_str()});
    if let Some(failure) = status.failure() {
        entry["reason"] = json!(failure.reason);
        entry["since"] = json!(timestamp(failure.since));
        entry["next_retry"] = json!(failure.next_retry.map(timestamp));
    }
    if let VersionStatus::Standby(door, _) = status {
        entry["waiting"] = json!(door.waiting());
    }
    if let Some(generation) = status.generation() {
        let idle = generation.usage().last_used().elapsed();
        entry["load"] = json!(if generation.settings().on_demand.is_lazy() { "lazy" } else { "eager" });
        entry["memory_bytes"] = json!(generation.memory());
        entry["idle_ms"] = json!(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX));
        entry["in_use"] = json!(generation.usage().in_use());
        let (workers, busy) = generation.scheduler().workers();
        let isolation = generation.settings().workers.isolation.as_str();
        entry["workers"] = json!({"count": workers, "busy": busy, "isolation": isolation});
        if isolation == Isolation::Process.as_str() {
            entry["workers"]["processes"] = json!(generation.scheduler().processes());
        }
        let placement = generation.placement();
        entry["device"] = json!({
            "name": placement.device.to_string(),
            "reason": placement.reason,
            "nodes": placement.nodes,
        });
        entry["queue"] = json!(generation.scheduler().waiting());
        entry["plugin"] = json!(generation.plugin().map(crate::plugin::Plugin::name));
    }
    entry
}
