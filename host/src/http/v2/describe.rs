//! What there is: the server, the models, their inputs and outputs, their configuration.
//!
//! Owns the JSON of these answers, in the protocol's own words.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::error::Error;
use crate::http::authorise::Asker;
use crate::http::openapi::schemas;
use crate::http::state::AppState;
use crate::http::target::Target;
use crate::http::{body, reply};
use crate::model::tensor::DataType;
use crate::model::{Device, TensorSpec};
use crate::pipeline::Generation;
use crate::repository::VersionStatus;
use crate::timestamp::timestamp;

/// The platform's name, as Triton calls it: clients know it.
pub(crate) const PLATFORM: &str = "onnxruntime_onnx";
/// The server's own name.
pub(crate) const NAME: &str = "nuke";
/// The extensions of the protocol that are served. What is not in here is refused with a reason.
pub(crate) const EXTENSIONS: [&str; 8] = [
    "binary_tensor_data",
    "classification",
    "logging",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
];

#[utoipa::path(
    get,
    path = "/v2",
    tag = "v2",
    responses((status = 200, description = "answered", body = schemas::ServerMetadata))
)]
pub(in crate::http) async fn server() -> Response {
    let body = json!({"name": NAME, "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS});
    reply::ok(&body)
}

/// The names that a request of this caller may use, and how each version stands.
#[utoipa::path(
    get,
    path = "/v2/models",
    tag = "v2",
    responses((status = 200, description = "answered", body = schemas::ModelList))
)]
pub(in crate::http) async fn models(State(state): State<AppState>, Asker(caller): Asker) -> Response {
    let all = state.index().all();
    let names: Vec<_> = all.keys().filter(|name| caller.sees(name)).collect();
    reply::ok(&json!({"models": names, "versions": listing(&state, &caller, false)}))
}

/// Bytes that the body of an index request may have.
const INDEX_BODY: usize = 4 << 10;

#[derive(Default, Deserialize)]
struct IndexRequest {
    ready: Option<bool>,
}

/// The repository index: all versions, or with `{"ready": true}` those that serve.
#[utoipa::path(
    post,
    path = "/v2/repository/index",
    tag = "v2",
    request_body(content = Option<schemas::IndexRequest>, content_type = "application/json"),
    responses((status = 200, description = "answered", body = Vec<schemas::IndexEntry>))
)]
pub(in crate::http) async fn index(
    State(state): State<AppState>,
    Asker(caller): Asker,
    request: Request,
) -> Result<Response, Error> {
    let body = body::of(request, INDEX_BODY, &state).await?;
    let wanted: IndexRequest = match body.as_ref() {
        [] => IndexRequest::default(),
        text => serde_json::from_slice(text).map_err(|error| {
            Error::invalid(format!("the body is no JSON of the form {{\"ready\": true}}: {error}"))
        })?,
    };
    let only_ready = wanted.ready.unwrap_or(false);
    Ok(reply::ok(&listing(&state, &caller, only_ready)))
}

fn listing(state: &AppState, caller: &Caller, only_ready: bool) -> Vec<Value> {
    let mut entries = Vec::new();
    each_version(state, caller, only_ready, |listed| entries.push(entry(&listed)));
    entries
}

/// A version in the repository's index.
#[derive(Debug)]
pub(crate) struct Listed<'a> {
    pub(crate) model: &'a str,
    pub(crate) version: &'a str,
    /// In Triton's words, which its clients know. A version that serves an earlier content is `READY`, with the
    /// reason why the present one failed, and so is one on standby.
    pub(crate) state: &'static str,
    /// Empty if there is nothing to say.
    pub(crate) reason: String,
    status: &'a VersionStatus,
}

/// Shows every version of every model that the caller may know, or those that serve.
pub(crate) fn each_version(
    state: &AppState,
    caller: &Caller,
    only_ready: bool,
    mut show: impl FnMut(Listed<'_>),
) {
    let all = state.index().all();
    for (name, model) in all.iter().filter(|(name, _)| caller.sees(name)) {
        let rolled_back = model.traffic.rolled_back();
        for (version, status) in &model.versions {
            if only_ready && !status.is_ready() {
                continue;
            }
            let mut reason = status.failure().map(|failure| failure.reason.clone()).unwrap_or_default();
            // It serves whoever names it, and traffic has left it.
            if let Some((canary, why)) = &rolled_back
                && canary == version
                && status.failure().is_none()
            {
                reason = format!("rolled back: {why}");
            }
            show(Listed { model: name, version, state: state_of(status), reason, status });
        }
    }
}

fn state_of(status: &VersionStatus) -> &'static str {
    match status {
        VersionStatus::Ready(_) | VersionStatus::Outdated(..) | VersionStatus::Standby(..) => "READY",
        VersionStatus::Discovered | VersionStatus::Loading(_) => "LOADING",
        VersionStatus::Draining(_) => "UNLOADING",
        VersionStatus::Unloaded(_) | VersionStatus::Failed(_) => "UNAVAILABLE",
    }
}

/// The state in Triton's words and in the host's own.
fn entry(listed: &Listed<'_>) -> Value {
    let Listed { model, version, state, reason, status } = listed;
    let mut entry = json!({
        "name": model, "version": version, "state": state, "status": status.as_str(), "reason": reason,
    });
    if let Some(failure) = status.failure() {
        entry["since"] = json!(timestamp(failure.since));
        entry["next_retry"] = json!(failure.next_retry.map(timestamp));
    }
    if let VersionStatus::Draining(draining) = status {
        entry["since"] = json!(timestamp(draining.since));
        entry["requests"] = json!(draining.requests());
    }
    entry
}

#[utoipa::path(
    get,
    path = "/v2/models/{model}",
    tag = "v2",
    params(("model" = String, Path, description = "the model's name, or `name@version`")),
    responses((status = 200, description = "answered", body = schemas::ModelMetadata))
)]
pub(in crate::http) async fn model(State(state): State<AppState>, target: Target) -> Result<Response, Error> {
    let (model, version) = (target.model.as_str(), target.version.as_deref());
    let generation = loaded(&state, &target).await?;
    let versions = ready_versions(&state, &generation, model, version);
    let tensor = |spec: &TensorSpec| json!({"name": spec.name, "datatype": spec.datatype.as_str(), "shape": spec.shape});
    let signature = generation.signature();
    let body = json!({
        "name": model,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": signature.inputs.iter().map(tensor).collect::<Vec<_>>(),
        "outputs": signature.outputs.iter().map(tensor).collect::<Vec<_>>(),
    });
    Ok(reply::ok(&body))
}

/// The versions of a model that answer: the one that is named, or all.
pub(crate) fn ready_versions(
    state: &AppState,
    generation: &Generation,
    model: &str,
    version: Option<&str>,
) -> Vec<String> {
    let all = state.index().all();
    let is_ready = |(name, status): &(String, VersionStatus)| status.is_ready().then(|| name.clone());
    match version {
        Some(_) => vec![generation.version().to_owned()],
        None => all
            .get(model)
            .map(|model| model.versions.iter().filter_map(is_ready).collect())
            .unwrap_or_default(),
    }
}

#[utoipa::path(
    get,
    path = "/v2/models/{model}/config",
    tag = "v2",
    params(("model" = String, Path, description = "the model's name, or `name@version`")),
    responses((status = 200, description = "answered", body = schemas::ModelConfig))
)]
pub(in crate::http) async fn config(
    State(state): State<AppState>,
    target: Target,
) -> Result<Response, Error> {
    let generation = loaded(&state, &target).await?;
    Ok(reply::ok(&model_config(&generation)))
}

/// What is asked about, loaded if it was not: nobody else knows what a model takes and gives.
pub(crate) async fn loaded(state: &AppState, target: &Target) -> Result<Arc<Generation>, Error> {
    let found = state.index().find(&target.model, target.version.as_deref())?;
    state.index().awake(found, Instant::now() + state.request_timeout()).await
}

/// The JSON form of Triton's `ModelConfig`, which perf_analyzer and tritonclient read. A
/// `max_batch_size` of 0 says that shapes include the batch dimension.
fn model_config(generation: &Generation) -> Value {
    let tensor = |spec: &TensorSpec| json!({"name": spec.name, "data_type": config_type(spec.datatype), "dims": spec.shape});
    let workers = generation.worker_range().max;
    let mut group = json!({"name": generation.model(), "kind": "KIND_CPU", "count": workers});
    if let Device::Cuda(number) = generation.placement().device {
        group["kind"] = json!("KIND_GPU");
        group["gpus"] = json!([number]);
    }
    json!({
        "name": generation.model(),
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": 0,
        "input": generation.signature().inputs.iter().map(tensor).collect::<Vec<_>>(),
        "output": generation.signature().outputs.iter().map(tensor).collect::<Vec<_>>(),
        "instance_group": [group],
        "model_transaction_policy": {"decoupled": false},
        "response_cache": {"enable": generation.settings().cache.ttl.is_some()},
    })
}

fn config_type(datatype: DataType) -> String {
    let name = if datatype == DataType::Bytes { "STRING" } else { datatype.as_str() };
    format!("TYPE_{name}")
}
