//! The bodies of requests and answers, as the document describes them.
//!
//! Owns shapes alone. Handlers write their JSON themselves; that it has these shapes is tested against the real server.

#![allow(dead_code, reason = "they are described, never made")]

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

/// Every answer that is not a success.
#[derive(ToSchema)]
pub(crate) struct ErrorAnswer {
    /// One line for people.
    error: String,
    /// One of the codes of the errors' manual.
    code: Option<String>,
    /// The request's name, as in the header `x-request-id` and in the log.
    request_id: Option<String>,
    /// Named texts.
    details: Option<BTreeMap<String, String>>,
}

/// A JSON value of any kind.
#[derive(ToSchema)]
#[schema(value_type = Object)]
pub(crate) struct Anything(Value);

/// Bytes of any kind.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(crate) struct AnyBytes(Vec<u8>);

#[derive(ToSchema)]
pub(crate) struct Live {
    live: bool,
}

#[derive(ToSchema)]
pub(crate) struct Ready {
    ready: bool,
}

#[derive(ToSchema)]
pub(crate) struct ModelReady {
    name: String,
    ready: bool,
    /// Why it is not.
    error: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct ServerMetadata {
    name: String,
    version: String,
    /// What of the protocol is served beyond its core.
    extensions: Vec<String>,
}

#[derive(ToSchema)]
pub(crate) struct ModelList {
    models: Vec<String>,
    versions: Vec<IndexEntry>,
}

#[derive(ToSchema)]
pub(crate) struct IndexRequest {
    /// Only those that serve.
    ready: Option<bool>,
}

#[derive(ToSchema)]
pub(crate) struct IndexEntry {
    name: String,
    version: String,
    state: State,
    /// The same in the host's own words.
    status: String,
    /// Why it does not serve, or why traffic has left it.
    reason: String,
    since: Option<String>,
    next_retry: Option<String>,
    requests: Option<u64>,
}

#[derive(ToSchema)]
#[schema(rename_all = "UPPERCASE")]
pub(crate) enum State {
    Ready,
    Loading,
    Unloading,
    Unavailable,
}

#[derive(ToSchema)]
pub(crate) struct ModelMetadata {
    name: String,
    versions: Vec<String>,
    platform: String,
    inputs: Vec<TensorMetadata>,
    outputs: Vec<TensorMetadata>,
}

#[derive(ToSchema)]
pub(crate) struct TensorMetadata {
    name: String,
    datatype: Datatype,
    /// -1 for a dimension that the request chooses.
    shape: Vec<i64>,
}

#[derive(ToSchema)]
#[schema(rename_all = "UPPERCASE")]
pub(crate) enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Fp32,
    Fp64,
    Bf16,
    Bytes,
}

/// The configuration in Triton's form.
#[derive(ToSchema)]
pub(crate) struct ModelConfig {
    name: String,
    platform: String,
    backend: String,
    max_batch_size: u64,
    input: Vec<TensorConfig>,
    output: Vec<TensorConfig>,
    instance_group: Vec<Value>,
    model_transaction_policy: Value,
    response_cache: Value,
}

#[derive(ToSchema)]
pub(crate) struct TensorConfig {
    name: String,
    data_type: String,
    dims: Vec<i64>,
}

#[derive(ToSchema)]
pub(crate) struct ModelStatistics {
    model_stats: Vec<VersionStatistics>,
}

#[derive(ToSchema)]
pub(crate) struct VersionStatistics {
    name: String,
    version: String,
    /// Milliseconds since 1970; 0 if there was none.
    last_inference: u64,
    /// Items of the requests that were answered.
    inference_count: u64,
    /// Runs of the model.
    execution_count: u64,
    inference_stats: InferenceStatistics,
    response_stats: Value,
    batch_stats: Vec<BatchStatistics>,
    memory_usage: Vec<Value>,
}

#[derive(ToSchema)]
pub(crate) struct InferenceStatistics {
    success: Duration,
    fail: Duration,
    queue: Duration,
    compute_input: Duration,
    compute_infer: Duration,
    compute_output: Duration,
    cache_hit: Duration,
    cache_miss: Duration,
}

#[derive(ToSchema)]
pub(crate) struct BatchStatistics {
    batch_size: u64,
    compute_input: Duration,
    compute_infer: Duration,
    compute_output: Duration,
}

/// How often, and how long altogether.
#[derive(ToSchema)]
pub(crate) struct Duration {
    count: u64,
    ns: u64,
}

#[derive(ToSchema)]
pub(crate) struct InferRequest {
    /// Comes back with the answer.
    id: Option<String>,
    /// `timeout` in microseconds, `priority`, `binary_data_output`, and any of your own.
    parameters: Option<BTreeMap<String, Value>>,
    inputs: Vec<InferInput>,
    /// Those wanted; all without it.
    outputs: Option<Vec<RequestedOutput>>,
}

#[derive(ToSchema)]
pub(crate) struct InferInput {
    #[schema(min_length = 1)]
    name: String,
    datatype: Datatype,
    shape: Vec<u64>,
    /// `binary_data_size`, for data behind the JSON.
    parameters: Option<BTreeMap<String, Value>>,
    /// Flat or nested, row-major; left out for data behind the JSON.
    data: Option<Vec<Value>>,
}

#[derive(ToSchema)]
pub(crate) struct RequestedOutput {
    #[schema(min_length = 1)]
    name: String,
    /// `binary_data`, `classification`.
    parameters: Option<BTreeMap<String, Value>>,
}

#[derive(ToSchema)]
pub(crate) struct InferResponse {
    id: Option<String>,
    model_name: String,
    model_version: String,
    parameters: Option<BTreeMap<String, Value>>,
    outputs: Vec<InferOutput>,
}

#[derive(ToSchema)]
pub(crate) struct InferOutput {
    name: String,
    datatype: Datatype,
    shape: Vec<u64>,
    parameters: Option<BTreeMap<String, Value>>,
    data: Option<Vec<Value>>,
}

#[derive(ToSchema)]
pub(crate) struct V1Models {
    models: Vec<String>,
}

/// One of the two.
#[derive(ToSchema)]
pub(crate) struct V1Request {
    /// Rows: values for a model of one input, else objects of its inputs.
    instances: Option<Vec<Value>>,
    /// Whole tensors: one for a model of one input, else an object of them.
    inputs: Option<Value>,
}

#[derive(ToSchema)]
pub(crate) struct V1Response {
    /// A row for each instance.
    predictions: Option<Vec<Value>>,
    /// Whole tensors, where the request had them.
    outputs: Option<Value>,
}

#[derive(ToSchema)]
pub(crate) struct AdminModels {
    models: Vec<AdminModel>,
}

#[derive(ToSchema)]
pub(crate) struct AdminModel {
    name: String,
    versions: Vec<AdminVersion>,
    traffic: Value,
}

#[derive(ToSchema)]
pub(crate) struct AdminVersion {
    version: String,
    state: String,
    reason: Option<String>,
    since: Option<String>,
    next_retry: Option<String>,
    workers: Option<Value>,
    queue: Option<u64>,
    plugin: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct Control {
    /// Of an unload: `unload_dependents`, which has no effect here.
    parameters: Option<BTreeMap<String, Value>>,
}

#[derive(ToSchema)]
pub(crate) struct Loaded {
    name: String,
    versions: Value,
}

#[derive(ToSchema)]
pub(crate) struct Named {
    name: String,
}

#[derive(ToSchema)]
pub(crate) struct LogSettings {
    log_file: String,
    log_error: bool,
    log_warning: bool,
    log_info: bool,
    log_verbose_level: u64,
    log_format: String,
    /// All of it, as `log.filter` has it.
    filter: String,
}

#[derive(ToSchema)]
pub(crate) struct LogChange {
    log_error: Option<bool>,
    log_warning: Option<bool>,
    log_info: Option<bool>,
    log_verbose_level: Option<u64>,
    /// Instead of the others.
    filter: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct TrafficAnswer {
    model: String,
    /// `admin` or `model.yaml`.
    source: String,
    set: Option<Value>,
    /// How far other nodes know of it; null where there are none.
    shared: Option<Shared>,
    status: Value,
}

#[derive(ToSchema)]
pub(crate) struct Shared {
    /// Rises with each change of any node.
    revision: u64,
    /// Whether all that this node knows is where the others see it.
    everywhere: bool,
}

#[derive(ToSchema)]
pub(crate) struct Nodes {
    /// The id of the node that was asked.
    own: String,
    /// `none`, `reached` or `away`.
    redis: String,
    /// When the others were seen.
    seen: Option<String>,
    nodes: Vec<Node>,
}

#[derive(ToSchema)]
pub(crate) struct Node {
    id: String,
    name: String,
    own: bool,
    addresses: Value,
    version: String,
    started: String,
    /// When it said this.
    at: String,
    /// `starting`, `ready`, `draining` or `stopping`.
    state: String,
    /// Requests that use a version now.
    in_use: u64,
    /// Requests that wait for a worker now.
    waiting: u64,
    models: Vec<NodeModel>,
}

#[derive(ToSchema)]
pub(crate) struct NodeModel {
    name: String,
    strategy: String,
    versions: Vec<NodeVersion>,
}

#[derive(ToSchema)]
pub(crate) struct NodeVersion {
    version: String,
    state: String,
    /// The SHA-256 of its content, if it serves.
    digest: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct Switch {
    active: Option<Colour>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum Colour {
    Blue,
    Green,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum RolloutAction {
    Promote,
    Abort,
    Retry,
}

/// A reward for an arm, or for the version behind one.
#[derive(ToSchema)]
pub(crate) struct Feedback {
    arm: Option<String>,
    version: Option<String>,
    reward: f64,
}

#[derive(ToSchema)]
pub(crate) struct FeedbackTaken {
    model: String,
    arm: String,
}
