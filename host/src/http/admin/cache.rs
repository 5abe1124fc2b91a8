//! `/admin/cache` and `/admin/models/{model}/cache`: what is remembered, and how it is forgotten.
//!
//! Owns the JSON of these answers. The cache itself counts, and purges on all nodes.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::models::unknown;
use super::to_its_end;
use crate::cache::{LevelCounts, ModelAnswers, Remote};
use crate::error::Error;
use crate::http::openapi::cache_schemas as schemas;
use crate::http::reply;
use crate::http::state::AppState;
use crate::http::target::WholeModel;
use crate::repository::Model;

/// Of all models that remember answers.
#[utoipa::path(
    get,
    path = "/admin/cache",
    tag = "admin",
    responses((status = 200, description = "answered", body = schemas::CacheStats))
)]
pub(in crate::http) async fn all(State(state): State<AppState>) -> Response {
    show(&state, None).await
}

/// Of one model, whether it remembers answers or not.
#[utoipa::path(
    get,
    path = "/admin/models/{model}/cache",
    tag = "admin",
    params(("model" = String, Path, description = "the model's name")),
    responses((status = 200, description = "answered", body = schemas::CacheStats))
)]
pub(in crate::http) async fn one(
    State(state): State<AppState>,
    target: WholeModel,
) -> Result<Response, Error> {
    known(&state, &target.model)?;
    Ok(show(&state, Some(&target.model)).await)
}

/// On all nodes, what is being computed included.
#[utoipa::path(
    delete,
    path = "/admin/cache",
    tag = "admin",
    responses((status = 200, description = "forgotten", body = schemas::CachePurged))
)]
pub(in crate::http) async fn purge_all(State(state): State<AppState>) -> Result<Response, Error> {
    purge(&state, None).await
}

/// On all nodes, what is being computed included.
#[utoipa::path(
    delete,
    path = "/admin/models/{model}/cache",
    tag = "admin",
    params(("model" = String, Path, description = "the model's name")),
    responses((status = 200, description = "forgotten", body = schemas::CachePurged))
)]
pub(in crate::http) async fn purge_one(
    State(state): State<AppState>,
    target: WholeModel,
) -> Result<Response, Error> {
    known(&state, &target.model)?;
    purge(&state, Some(target.model)).await
}

fn known(state: &AppState, model: &str) -> Result<(), Error> {
    if state.index().all().contains_key(model) { Ok(()) } else { Err(unknown(model)) }
}

async fn purge(state: &AppState, model: Option<String>) -> Result<Response, Error> {
    let (cache, purged) = (state.cache().clone(), model.clone());
    let purging = async move { cache.purge_everywhere(purged.as_deref()).await };
    let purged = to_its_end("purge", purging).await?;
    let nodes = purged.told.map(|told| match told {
        Ok(()) => json!({"told": true, "reason": null}),
        Err(error) => json!({"told": false, "reason": error.to_string()}),
    });
    let is_told = nodes.as_ref().map(|nodes| nodes["told"] == true);
    tracing::info!(model, answers = purged.answers, is_told, "an operator has purged remembered answers");
    let body = json!({"model": model, "purged": purged.answers, "nodes": nodes});
    Ok(reply::ok(&body))
}

async fn show(state: &AppState, model: Option<&str>) -> Response {
    let cache = state.cache();
    let (known, answers) = (state.index().all(), cache.stats());
    let has_redis = cache.remote().is_some();
    let models: Vec<Value> = known
        .iter()
        .filter(|(name, _)| model.is_none_or(|model| model == name.as_str()))
        .filter_map(|(name, found)| {
            let answers = answers.iter().find(|answers| &answers.model == name);
            let remembers = remembers(found);
            // Of all models, those without a cache are of no interest.
            (model.is_some() || remembers || answers.is_some())
                .then(|| entry(name, remembers, answers, has_redis))
        })
        .collect();
    let sum = |of: fn(&ModelAnswers) -> u64| answers.iter().map(of).sum::<u64>();
    let memory = json!({
        "entries": sum(|answers| answers.entries),
        "bytes": sum(|answers| answers.bytes),
        "limit": cache.limit(),
    });
    let redis = match cache.remote() {
        Some(remote) => redis(remote).await,
        None => Value::Null,
    };
    reply::ok(&json!({"memory": memory, "redis": redis, "models": models}))
}

fn remembers(model: &Model) -> bool {
    let mut serving = model.versions.iter().filter_map(|(_, status)| status.generation());
    serving.any(|generation| generation.settings().cache.ttl.is_some())
}

fn entry(name: &str, remembers: bool, answers: Option<&ModelAnswers>, has_redis: bool) -> Value {
    let none = LevelCounts::default();
    let (memory, redis) = answers.map_or((&none, &none), |answers| (&answers.memory, &answers.redis));
    let held = |of: fn(&ModelAnswers) -> u64| Some(answers.map_or(0, of));
    let (entries, bytes) = (held(|answers| answers.entries), held(|answers| answers.bytes));
    json!({
        "model": name,
        "remembers": remembers,
        "memory": level(memory, entries, bytes),
        "redis": has_redis.then(|| level(redis, None, None)),
    })
}

fn level(counts: &LevelCounts, entries: Option<u64>, bytes: Option<u64>) -> Value {
    json!({
        "entries": entries,
        "bytes": bytes,
        "hits": counts.hits,
        "misses": counts.misses,
        "coalesced": counts.coalesced,
        "errors": counts.errors,
    })
}

/// Within the time of `cache.redis.timeout` for each of its two questions.
async fn redis(remote: &Remote) -> Value {
    match remote.usage().await {
        Ok(usage) => json!({
            "up": true,
            "reason": null,
            "keys": usage.keys,
            "bytes": usage.bytes,
            "max_bytes": Some(usage.max_bytes).filter(|&bytes| bytes > 0),
            "evicted": usage.evicted,
        }),
        Err(error) => json!({
            "up": false,
            "reason": error.to_string(),
            "keys": null,
            "bytes": null,
            "max_bytes": null,
            "evicted": null,
        }),
    }
}
