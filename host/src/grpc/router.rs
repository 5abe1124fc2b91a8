//! Which service answers which path, and what is in front of them.
//!
//! Owns the order of what a call goes through, and the size of messages.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic_health::pb::health_server::HealthServer;

use super::health::Health;
use super::operators::{self, Place};
use super::protocol::DESCRIPTORS;
use super::protocol::grpc_inference_service_server::GrpcInferenceServiceServer;
use super::service::Inference;
use super::{access, authorise, call, failure};
use crate::error::{Error, ErrorCode};
use crate::http::state::AppState;

/// Bytes of messages that carry no tensors: what small ones expand to in memory stays small.
pub(super) const SMALL: usize = 1 << 20;

/// Everything that is served on gRPC at one listener.
///
/// # Errors
/// When the descriptors for reflection cannot be read, which a build of the host alone could cause.
pub fn grpc_router(state: AppState, place: Place) -> Result<Router, Error> {
    let service = |limit: usize| {
        move |inference: Arc<Inference>| {
            GrpcInferenceServiceServer::from_arc(inference)
                .max_decoding_message_size(limit)
                .accept_compressed(Gzip)
                .accept_compressed(Zstd)
                .send_compressed(Gzip)
                .send_compressed(Zstd)
        }
    };
    let inference = Arc::new(Inference::new(state.clone()));
    let large = service(state.max_message())(Arc::clone(&inference));
    let small = service(SMALL.min(state.max_message()))(inference);
    let health = HealthServer::new(Health::new(state.clone())).max_decoding_message_size(SMALL);
    let unreadable = |error| Error::internal(format!("the descriptors of gRPC cannot be read: {error}"));
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = Router::new()
        .route_service("/inference.GRPCInferenceService/ModelInfer", large.clone())
        .route_service("/inference.GRPCInferenceService/ModelStreamInfer", large)
        .route_service("/inference.GRPCInferenceService/{method}", small)
        .route_service("/grpc.health.v1.Health/{method}", health)
        .route_service(
            "/grpc.reflection.v1.ServerReflection/{method}",
            described().build_v1().map_err(unreadable)?,
        )
        .route_service(
            "/grpc.reflection.v1alpha.ServerReflection/{method}",
            described().build_v1alpha().map_err(unreadable)?,
        )
        .fallback(unknown_method);
    Ok(routes
        // The last of these is the first that a call meets.
        .layer(from_fn_with_state((state.clone(), place), operators::guard))
        .layer(from_fn_with_state(state.clone(), authorise::authorise))
        .layer(from_fn_with_state(state.clone(), call::begin))
        .layer(from_fn_with_state(state, access::record)))
}

async fn unknown_method(request: Request) -> Response {
    let path: String = request.uri().path().chars().take(200).collect();
    let error = Error::new(ErrorCode::Unimplemented, format!("there is no gRPC method {path}"));
    failure::status(&error, None).into_http()
}
