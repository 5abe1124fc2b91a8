//! `GET /v2/models/stats`, `/v2/models/{model}[/versions/{version}]/stats`: what versions have done.
//!
//! Owns the JSON of the statistics extension. What is counted, and how, is `telemetry::statistics`'s.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::error::Error;
use crate::http::authorise::Asker;
use crate::http::openapi::schemas;
use crate::http::reply;
use crate::http::state::AppState;
use crate::http::target::Target;
use crate::pipeline::Generation;
use crate::telemetry::{BatchStatistics, Timed};

/// Of every version that serves, of the models that the caller sees.
#[utoipa::path(
    get,
    path = "/v2/models/stats",
    tag = "v2",
    responses((status = 200, description = "answered", body = schemas::ModelStatistics))
)]
pub(in crate::http) async fn all(State(state): State<AppState>, Asker(caller): Asker) -> Response {
    let generations = state.index().generations();
    answer(generations.iter().map(AsRef::as_ref).filter(|generation| caller.sees(generation.model())))
}

/// Of the versions of one model that serve, or of the one that is named.
#[utoipa::path(
    get,
    path = "/v2/models/{model}/stats",
    tag = "v2",
    params(("model" = String, Path, description = "the model's name, or `name@version`")),
    responses((status = 200, description = "answered", body = schemas::ModelStatistics))
)]
pub(in crate::http) async fn model(State(state): State<AppState>, target: Target) -> Result<Response, Error> {
    // Says why there is none, too.
    let named = state.index().find(&target.model, target.version.as_deref())?;
    if target.version.is_some() {
        return Ok(answer(named.loaded().map(AsRef::as_ref).into_iter()));
    }
    let all = state.index().all();
    let versions = all.get(&target.model).map(|model| model.versions.as_slice()).unwrap_or_default();
    Ok(answer(versions.iter().filter_map(|(_, status)| status.generation()).map(AsRef::as_ref)))
}

fn answer<'a>(generations: impl Iterator<Item = &'a Generation>) -> Response {
    let models: Vec<Value> = generations.map(entry).collect();
    reply::ok(&json!({"model_stats": models}))
}

fn entry(generation: &Generation) -> Value {
    let now = generation.scheduler().statistics();
    let batches: Vec<Value> = now.batches.iter().map(batch).collect();
    json!({
        "name": generation.model(),
        "version": generation.version(),
        "last_inference": now.last_inference_ms,
        "inference_count": now.inference_count,
        "execution_count": now.execution_count,
        "inference_stats": {
            "success": timed(now.success),
            "fail": timed(now.fail),
            "queue": timed(now.queue),
            "compute_input": timed(now.compute_input),
            "compute_infer": timed(now.compute_infer),
            "compute_output": timed(now.compute_output),
            "cache_hit": timed(now.cache_hit),
            "cache_miss": timed(now.cache_miss),
        },
        "response_stats": {},
        "batch_stats": batches,
        "memory_usage": [],
    })
}

fn batch(batch: &BatchStatistics) -> Value {
    json!({
        "batch_size": batch.size,
        "compute_input": timed(batch.compute_input),
        "compute_infer": timed(batch.compute_infer),
        "compute_output": timed(batch.compute_output),
    })
}

fn timed(timed: Timed) -> Value {
    json!({"count": timed.count, "ns": timed.ns})
}
