//! What there is: models, their configuration, their numbers, the repository's index.
//!
//! Owns the form of these answers on gRPC. The facts are those of REST.

use super::authorise::target;
use super::protocol as pb;
use super::protocol::model_instance_group::Kind;
use super::protocol::model_metadata_response::TensorMetadata;
use super::protocol::repository_index_response::ModelIndex;
use crate::auth::Caller;
use crate::error::{Error, ErrorCode, shown};
use crate::http::state::AppState;
use crate::http::target::Target;
use crate::http::v2::describe::{PLATFORM, each_version, loaded, ready_versions};
use crate::model::tensor::DataType;
use crate::model::{Device, TensorSpec};
use crate::pipeline::Generation;
use crate::telemetry::{BatchStatistics, Timed};

pub(super) async fn metadata(
    state: &AppState,
    caller: &Caller,
    request: &pb::ModelMetadataRequest,
) -> Result<pb::ModelMetadataResponse, Error> {
    let target = target(caller, &request.name, &request.version)?;
    let generation = loaded(state, &target).await?;
    let tensor = |spec: &TensorSpec| TensorMetadata {
        name: spec.name.clone(),
        datatype: spec.datatype.as_str().to_owned(),
        shape: spec.shape.clone(),
    };
    Ok(pb::ModelMetadataResponse {
        versions: ready_versions(state, &generation, &target.model, target.version.as_deref()),
        name: target.model,
        platform: PLATFORM.to_owned(),
        inputs: generation.signature().inputs.iter().map(tensor).collect(),
        outputs: generation.signature().outputs.iter().map(tensor).collect(),
    })
}

pub(super) async fn config(
    state: &AppState,
    caller: &Caller,
    request: &pb::ModelConfigRequest,
) -> Result<pb::ModelConfigResponse, Error> {
    let target = target(caller, &request.name, &request.version)?;
    let generation = loaded(state, &target).await?;
    Ok(pb::ModelConfigResponse { config: Some(model_config(&generation)) })
}

/// The same as the JSON of REST, which a test holds.
fn model_config(generation: &Generation) -> pb::ModelConfig {
    let signature = generation.signature();
    let input = |spec: &TensorSpec| pb::ModelInput {
        name: spec.name.clone(),
        data_type: config_type(spec.datatype) as i32,
        dims: spec.shape.clone(),
    };
    let output = |spec: &TensorSpec| pb::ModelOutput {
        name: spec.name.clone(),
        data_type: config_type(spec.datatype) as i32,
        dims: spec.shape.clone(),
    };
    let workers = generation.worker_range().max;
    let (kind, gpus) = match generation.placement().device {
        Device::Cpu => (Kind::Cpu, Vec::new()),
        Device::Cuda(number) => (Kind::Gpu, vec![i32::try_from(number).unwrap_or(i32::MAX)]),
    };
    pb::ModelConfig {
        name: generation.model().to_owned(),
        platform: PLATFORM.to_owned(),
        backend: "onnxruntime".to_owned(),
        input: signature.inputs.iter().map(input).collect(),
        output: signature.outputs.iter().map(output).collect(),
        instance_group: vec![pb::ModelInstanceGroup {
            name: generation.model().to_owned(),
            count: i32::try_from(workers).unwrap_or(i32::MAX),
            kind: kind as i32,
            gpus,
        }],
        model_transaction_policy: Some(pb::ModelTransactionPolicy { decoupled: false }),
        response_cache: Some(pb::ModelResponseCache { enable: generation.settings().cache.ttl.is_some() }),
        ..Default::default()
    }
}

const fn config_type(datatype: DataType) -> pb::DataType {
    match datatype {
        DataType::Bool => pb::DataType::TypeBool,
        DataType::Uint8 => pb::DataType::TypeUint8,
        DataType::Uint16 => pb::DataType::TypeUint16,
        DataType::Uint32 => pb::DataType::TypeUint32,
        DataType::Uint64 => pb::DataType::TypeUint64,
        DataType::Int8 => pb::DataType::TypeInt8,
        DataType::Int16 => pb::DataType::TypeInt16,
        DataType::Int32 => pb::DataType::TypeInt32,
        DataType::Int64 => pb::DataType::TypeInt64,
        DataType::Fp16 => pb::DataType::TypeFp16,
        DataType::Fp32 => pb::DataType::TypeFp32,
        DataType::Fp64 => pb::DataType::TypeFp64,
        DataType::Bf16 => pb::DataType::TypeBf16,
        DataType::Bytes => pb::DataType::TypeString,
    }
}

pub(super) fn statistics(
    state: &AppState,
    caller: &Caller,
    request: &pb::ModelStatisticsRequest,
) -> Result<pb::ModelStatisticsResponse, Error> {
    let mut generations = state.index().generations();
    if request.name.is_empty() {
        generations.retain(|generation| caller.sees(generation.model()));
    } else {
        let Target { model, version } = target(caller, &request.name, &request.version)?;
        // What is not there, or does not serve, is an error as everywhere.
        let found = state.index().find(&model, version.as_deref())?;
        match version {
            Some(_) => generations = found.loaded().cloned().into_iter().collect(),
            None => generations.retain(|generation| generation.model() == model),
        }
    }
    let model_stats = generations.iter().map(|generation| model_statistics(generation)).collect();
    Ok(pb::ModelStatisticsResponse { model_stats })
}

fn model_statistics(generation: &Generation) -> pb::ModelStatistics {
    let now = generation.scheduler().statistics();
    let duration = |timed: Timed| Some(pb::StatisticDuration { count: timed.count, ns: timed.ns });
    let batch = |batch: &BatchStatistics| pb::InferBatchStatistics {
        batch_size: batch.size,
        compute_input: duration(batch.compute_input),
        compute_infer: duration(batch.compute_infer),
        compute_output: duration(batch.compute_output),
    };
    pb::ModelStatistics {
        name: generation.model().to_owned(),
        version: generation.version().to_owned(),
        last_inference: now.last_inference_ms,
        inference_count: now.inference_count,
        execution_count: now.execution_count,
        inference_stats: Some(pb::InferStatistics {
            success: duration(now.success),
            fail: duration(now.fail),
            queue: duration(now.queue),
            compute_input: duration(now.compute_input),
            compute_infer: duration(now.compute_infer),
            compute_output: duration(now.compute_output),
            cache_hit: duration(now.cache_hit),
            cache_miss: duration(now.cache_miss),
        }),
        batch_stats: now.batches.iter().map(batch).collect(),
        ..Default::default()
    }
}

pub(super) fn index(
    state: &AppState,
    caller: &Caller,
    request: &pb::RepositoryIndexRequest,
) -> Result<pb::RepositoryIndexResponse, Error> {
    refuse_other_repository(&request.repository_name)?;
    let mut models = Vec::new();
    each_version(state, caller, request.ready, |listed| {
        models.push(ModelIndex {
            name: listed.model.to_owned(),
            version: listed.version.to_owned(),
            state: listed.state.to_owned(),
            reason: listed.reason,
        });
    });
    Ok(pb::RepositoryIndexResponse { models })
}

/// There is one repository, and it has no name.
pub(super) fn refuse_other_repository(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Ok(());
    }
    let name = shown(name, 100);
    let message = format!("repository '{name}': this server has one repository; leave repository_name empty");
    Err(Error::new(ErrorCode::Unimplemented, message))
}
