//! `GET /admin/nodes`: the hosts that share a Redis, and what each of them serves.
//!
//! Owns the JSON of this answer.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::http::openapi::schemas;
use crate::http::reply;
use crate::http::state::AppState;
use crate::nodes::NodeInfo;
use crate::timestamp::timestamp;

#[utoipa::path(
    get,
    path = "/admin/nodes",
    tag = "admin",
    responses((status = 200, description = "answered", body = schemas::Nodes))
)]
pub(in crate::http) async fn all(State(state): State<AppState>) -> Response {
    let listing = state.nodes().listing();
    let nodes: Vec<Value> = listing.nodes.iter().map(|node| entry(node, &listing.own)).collect();
    let redis = match listing.reached {
        None => "none",
        Some(true) => "reached",
        Some(false) => "away",
    };
    let body = json!({
        "own": listing.own,
        "redis": redis,
        "seen": listing.seen.map(at),
        "nodes": nodes,
    });
    reply::ok(&body)
}

fn entry(node: &NodeInfo, own: &str) -> Value {
    json!({
        "id": node.id,
        "name": node.name,
        "own": node.id == own,
        "addresses": node.addresses,
        "version": node.version,
        "started": at(node.started),
        "at": at(node.at),
        "state": node.state,
        "in_use": node.in_use,
        "waiting": node.waiting,
        "models": node.models,
    })
}

/// A moment that another node has told, which may be any.
fn at(millis: u64) -> String {
    const LAST: u64 = 253_402_300_799_000;
    timestamp(std::time::UNIX_EPOCH + std::time::Duration::from_millis(millis.min(LAST)))
}
