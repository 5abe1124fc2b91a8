//! `GET /admin/models[/{model}]`: how every version stands.
//!
//! Owns the JSON of these answers.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use crate::config::Isolation;
use crate::error::{Error, ErrorCode};
use crate::http::reply;
use crate::http::state::AppState;
use crate::http::target::WholeModel;
use crate::repository::{Model, VersionStatus};
use crate::timestamp::timestamp;

pub(super) async fn all(State(state): State<AppState>) -> Response {
    let all = state.index().all();
    let models: Vec<_> = all.iter().map(|(name, found)| model(name, found)).collect();
    reply::json(StatusCode::OK, &json!({"models": models}))
}

pub(super) async fn one(State(state): State<AppState>, target: WholeModel) -> Result<Response, Error> {
    let all = state.index().all();
    let (name, found) = all.get_key_value(&target.model).ok_or_else(|| unknown(&target.model))?;
    Ok(reply::json(StatusCode::OK, &model(name, found)))
}

/// A model that is not there, in the protocol's words.
pub(super) fn unknown(model: &str) -> Error {
    let name: String = model.chars().take(200).flat_map(char::escape_default).collect();
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
    if let Some(generation) = status.generation() {
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
