//! gRPC's own health service, as Kubernetes and load balancers ask for it.
//!
//! Owns its answers: the server is well when it is ready, as on HTTP. A watch is never at work: its connection goes when
//! others need the seat, as `http::front` has it.

use std::pin::Pin;

use futures_util::stream::{self, Stream, StreamExt as _};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server};

use super::failure;
use super::watches::{Watch, Watches};
use crate::error::{Error, ErrorCode, shown};
use crate::http::authorise::origin;
use crate::http::state::AppState;

/// The names of services that there are; the empty one is the server.
const SERVICES: [&str; 2] = ["", "inference.GRPCInferenceService"];

/// See the module.
#[derive(Debug)]
pub(super) struct Health {
    state: AppState,
    watches: Watches,
}

impl Health {
    pub(super) fn new(state: AppState) -> Self {
        Self { state, watches: Watches::default() }
    }
}

const fn answer(ready: bool) -> HealthCheckResponse {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status as i32 }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if SERVICES.contains(&service.as_str()) {
            return Ok(Response::new(answer(self.state.lifecycle().is_ready())));
        }
        let name = shown(&service, 100);
        let message = format!("there is no service '{name}'; ask for '' or '{}'", SERVICES[1]);
        Err(failure::status(&Error::new(ErrorCode::NotFound, message), None))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// Tells how things stand, and each change. It ends when the server stops, which connections wait for.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let state = self.state.clone();
        let peer = origin(request.extensions().get());
        let address = state.gate().address(request.metadata().as_ref(), &peer);
        let watch = self.watches.begin(address).map_err(|error| failure::status(&error, None))?;
        if !SERVICES.contains(&request.into_inner().service.as_str()) {
            return Ok(Response::new(Box::pin(unknown_service(state).map(move |told| kept(&watch, told)))));
        }
        let told = stream::unfold((state, None), |(state, told)| async move {
            if let Some(told) = told {
                let lifecycle = state.lifecycle();
                tokio::select! {
                    () = lifecycle.changed_from(told) => {}
                    () = lifecycle.stopping() => {}
                }
                if lifecycle.is_ready() == told {
                    return None;
                }
            }
            let ready = state.lifecycle().is_ready();
            Some((Ok(answer(ready)), (state, Some(ready))))
        });
        Ok(Response::new(Box::pin(told.map(move |told| kept(&watch, told)))))
    }
}

/// An answer of a watch, which goes on.
fn kept<T>(_: &Watch, told: T) -> T {
    told
}

/// Says once that there is no such service, and ends when the server stops: by the protocol the stream stays open,
/// should the service come.
fn unknown_service(state: AppState) -> impl Stream<Item = Result<HealthCheckResponse, Status>> {
    stream::unfold((state, false), |(state, told)| async move {
        if told {
            state.lifecycle().stopping().await;
            return None;
        }
        Some((Ok(HealthCheckResponse { status: ServingStatus::ServiceUnknown as i32 }), (state, true)))
    })
}
