//! The protocol's service: which function answers which method.
//!
//! Owns the short answers, and what this server does not serve.

use tonic::{Request, Response, Status, Streaming};

use super::authorise::{caller, target};
use super::call::Call;
use super::infer::{self, while_waited_for};
use super::message::WholeMessage;
use super::protocol as pb;
use super::protocol::grpc_inference_service_server::GrpcInferenceService;
use super::{describe, failure, stream};
use crate::error::{Error, ErrorCode};
use crate::http::admin::access::Acted;
use crate::http::admin::control::{load_model, unload_model};
use crate::http::state::AppState;
use crate::http::target::Target;
use crate::http::v2::describe::{EXTENSIONS, NAME};

/// See the module.
#[derive(Debug)]
pub(super) struct Inference(AppState);

impl Inference {
    pub(super) const fn new(state: AppState) -> Self {
        Self(state)
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(answer: Result<T, Error>) -> Answer<T> {
    answer.map(Response::new).map_err(|error| failure::status(&error, None))
}

/// An answer that names the model for the audit log.
fn acted<T>(model: &str, message: T) -> Response<T> {
    let mut response = Response::new(message);
    response.extensions_mut().insert(Acted(model.to_owned()));
    response
}

fn unserved<T>(what: &str, remedy: &str) -> Answer<T> {
    let message = format!("{what} is not served by this version; {remedy}");
    answer(Err(Error::new(ErrorCode::Unimplemented, message)))
}

fn no_shared_memory<T>() -> Answer<T> {
    unserved("shared memory", "send tensors in raw_input_contents")
}

/// Which model a load or an unload is for, and whether KServe's clients ask: their message has the name where
/// others have that of a repository.
fn subject<'a>(repository: &'a str, model: &'a str) -> Result<(&'a str, bool), Error> {
    let (name, is_kserve) = if model.is_empty() { (repository, true) } else { (model, false) };
    if !is_kserve {
        describe::refuse_other_repository(repository)?;
    }
    match Target::named(name, "")? {
        Target { version: Some(_), .. } => {
            Err(Error::invalid("this is about a whole model; name it without '@' and version"))
        }
        Target { version: None, .. } => Ok((name, is_kserve)),
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Inference {
    async fn server_live(&self, _: Request<pb::ServerLiveRequest>) -> Answer<pb::ServerLiveResponse> {
        answer(Ok(pb::ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<pb::ServerReadyRequest>) -> Answer<pb::ServerReadyResponse> {
        answer(Ok(pb::ServerReadyResponse { ready: self.0.lifecycle().is_ready() }))
    }

    async fn model_ready(&self, request: Request<pb::ModelReadyRequest>) -> Answer<pb::ModelReadyResponse> {
        answer(caller(request.extensions()).and_then(|caller| {
            let target = target(&caller, &request.get_ref().name, &request.get_ref().version)?;
            match self.0.index().find(&target.model, target.version.as_deref()) {
                Ok(_) => Ok(pb::ModelReadyResponse { ready: true }),
                Err(error) if error.code == ErrorCode::Unavailable => {
                    Ok(pb::ModelReadyResponse { ready: false })
                }
                Err(error) => Err(error),
            }
        }))
    }

    async fn server_metadata(
        &self,
        _: Request<pb::ServerMetadataRequest>,
    ) -> Answer<pb::ServerMetadataResponse> {
        answer(Ok(pb::ServerMetadataResponse {
            name: NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<pb::ModelMetadataRequest>,
    ) -> Answer<pb::ModelMetadataResponse> {
        answer(match caller(request.extensions()) {
            Ok(caller) => describe::metadata(&self.0, &caller, request.get_ref()).await,
            Err(error) => Err(error),
        })
    }

    async fn model_infer(&self, request: Request<WholeMessage>) -> Answer<pb::ModelInferResponse> {
        infer::unary(&self.0, request).await
    }

    type ModelStreamInferStream = stream::Answers;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<WholeMessage>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        // Nobody comes in who was not asked at the call's head.
        caller(request.extensions()).map_err(|error| failure::status(&error, None))?;
        Ok(Response::new(stream::answers(&self.0, request)))
    }

    async fn model_config(
        &self,
        request: Request<pb::ModelConfigRequest>,
    ) -> Answer<pb::ModelConfigResponse> {
        answer(match caller(request.extensions()) {
            Ok(caller) => describe::config(&self.0, &caller, request.get_ref()).await,
            Err(error) => Err(error),
        })
    }

    async fn model_statistics(
        &self,
        request: Request<pb::ModelStatisticsRequest>,
    ) -> Answer<pb::ModelStatisticsResponse> {
        let caller = caller(request.extensions());
        answer(caller.and_then(|caller| describe::statistics(&self.0, &caller, request.get_ref())))
    }

    async fn repository_index(
        &self,
        request: Request<pb::RepositoryIndexRequest>,
    ) -> Answer<pb::RepositoryIndexResponse> {
        let caller = caller(request.extensions());
        answer(caller.and_then(|caller| describe::index(&self.0, &caller, request.get_ref())))
    }

    async fn repository_model_load(
        &self,
        request: Request<pb::RepositoryModelLoadRequest>,
    ) -> Answer<pb::RepositoryModelLoadResponse> {
        let deadline = request.extensions().get::<Call>().and_then(Call::deadline);
        let request = request.into_inner();
        let loading = async {
            let (model, is_kserve) = subject(&request.repository_name, &request.model_name)?;
            load_model(&self.0, model, request.parameters.keys()).await?;
            let told = if is_kserve { model.to_owned() } else { String::new() };
            let response = pb::RepositoryModelLoadResponse { model_name: told, is_loaded: is_kserve };
            Ok(acted(model, response))
        };
        while_waited_for(deadline, loading).await.map_err(|error| failure::status(&error, None))
    }

    async fn repository_model_unload(
        &self,
        request: Request<pb::RepositoryModelUnloadRequest>,
    ) -> Answer<pb::RepositoryModelUnloadResponse> {
        let deadline = request.extensions().get::<Call>().and_then(Call::deadline);
        let request = request.into_inner();
        let unloading = async {
            let (model, is_kserve) = subject(&request.repository_name, &request.model_name)?;
            unload_model(&self.0, model, request.parameters.keys()).await?;
            let told = if is_kserve { model.to_owned() } else { String::new() };
            let response = pb::RepositoryModelUnloadResponse { model_name: told, is_unloaded: is_kserve };
            Ok(acted(model, response))
        };
        while_waited_for(deadline, unloading).await.map_err(|error| failure::status(&error, None))
    }

    async fn system_shared_memory_status(
        &self,
        _: Request<pb::SystemSharedMemoryStatusRequest>,
    ) -> Answer<pb::SystemSharedMemoryStatusResponse> {
        no_shared_memory()
    }

    async fn system_shared_memory_register(
        &self,
        _: Request<pb::SystemSharedMemoryRegisterRequest>,
    ) -> Answer<pb::SystemSharedMemoryRegisterResponse> {
        no_shared_memory()
    }

    async fn system_shared_memory_unregister(
        &self,
        _: Request<pb::SystemSharedMemoryUnregisterRequest>,
    ) -> Answer<pb::SystemSharedMemoryUnregisterResponse> {
        no_shared_memory()
    }

    async fn cuda_shared_memory_status(
        &self,
        _: Request<pb::CudaSharedMemoryStatusRequest>,
    ) -> Answer<pb::CudaSharedMemoryStatusResponse> {
        no_shared_memory()
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<pb::CudaSharedMemoryRegisterRequest>,
    ) -> Answer<pb::CudaSharedMemoryRegisterResponse> {
        no_shared_memory()
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<pb::CudaSharedMemoryUnregisterRequest>,
    ) -> Answer<pb::CudaSharedMemoryUnregisterResponse> {
        no_shared_memory()
    }

    async fn trace_setting(&self, _: Request<pb::TraceSettingRequest>) -> Answer<pb::TraceSettingResponse> {
        unserved("the trace extension", "each request's stages are in the access log and in /metrics")
    }

    async fn log_settings(&self, _: Request<pb::LogSettingsRequest>) -> Answer<pb::LogSettingsResponse> {
        unserved("the logging extension on gRPC", "set log.filter in the configuration")
    }
}
