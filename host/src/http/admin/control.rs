//! `POST /v2/repository/models/{model}/load` and `…/unload`, as Triton's clients use them.
//!
//! Owns the bodies of these requests. What loading means is the repository's: a load answers when the model's
//! versions serve or have failed.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::models::unknown;
use super::object;
use crate::error::{Error, ErrorCode};
use crate::http::openapi::schemas;
use crate::http::state::AppState;
use crate::http::target::WholeModel;
use crate::http::{body, reply};

/// Bytes that a body may have.
const BODY: usize = 1 << 20;

/// The parameters of an unload that the protocol names; there are no dependents here.
const UNLOAD_DEPENDENTS: &str = "unload_dependents";

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Control {
    #[serde(default)]
    parameters: Map<String, Value>,
}

#[utoipa::path(
    post,
    path = "/v2/repository/models/{model}/load",
    tag = "admin",
    params(("model" = String, Path, description = "the model's name")),
    request_body(content = Option<schemas::Control>, content_type = "application/json"),
    responses((status = 200, description = "answered", body = schemas::Loaded))
)]
pub(in crate::http) async fn load(
    State(state): State<AppState>,
    target: WholeModel,
    request: Request,
) -> Result<Response, Error> {
    let parameters = read(&state, request).await?;
    let versions = load_model(&state, &target.model, parameters.keys()).await?;
    Ok(reply::json(StatusCode::OK, &json!({"name": target.model, "versions": versions})))
}

/// Loads a model; these are the names of the request's parameters. Returns the versions that serve.
pub(crate) async fn load_model(
    state: &AppState,
    model: &str,
    mut parameters: impl Iterator<Item = &String>,
) -> Result<Vec<String>, Error> {
    if let Some(name) = parameters.next() {
        let message = format!(
            "parameter '{}': a model is loaded as it lies in the models folder; put files and settings there",
            name.chars().take(100).flat_map(char::escape_default).collect::<String>()
        );
        return Err(Error::new(ErrorCode::Unimplemented, message));
    }
    // A client that goes away takes nothing back.
    let (keeper, name) = (state.keeper().clone(), model.to_owned());
    let loading = tokio::spawn(async move { keeper.load(&name).await });
    let loaded =
        loading.await.map_err(|error| Error::internal(format!("the load itself failed: {error}")))?;
    loaded.map_err(|reason| {
        let known = state.index().all().contains_key(model);
        let message = format!("failed to load '{}': {reason}", shortened(model));
        Error::new(if known { ErrorCode::InvalidArgument } else { ErrorCode::NotFound }, message)
    })
}

#[utoipa::path(
    post,
    path = "/v2/repository/models/{model}/unload",
    tag = "admin",
    params(("model" = String, Path, description = "the model's name")),
    request_body(content = Option<schemas::Control>, content_type = "application/json"),
    responses((status = 200, description = "answered", body = schemas::Named))
)]
pub(in crate::http) async fn unload(
    State(state): State<AppState>,
    target: WholeModel,
    request: Request,
) -> Result<Response, Error> {
    let parameters = read(&state, request).await?;
    unload_model(&state, &target.model, parameters.keys()).await?;
    Ok(reply::json(StatusCode::OK, &json!({"name": target.model})))
}

/// Takes a model out; these are the names of the request's parameters.
pub(crate) async fn unload_model(
    state: &AppState,
    model: &str,
    mut parameters: impl Iterator<Item = &String>,
) -> Result<(), Error> {
    if let Some(name) = parameters.find(|name| name.as_str() != UNLOAD_DEPENDENTS) {
        return Err(Error::invalid(format!(
            "parameter '{}' is none of an unload; {UNLOAD_DEPENDENTS} is",
            shortened(name)
        )));
    }
    let (keeper, name) = (state.keeper().clone(), model.to_owned());
    let unloading = tokio::spawn(async move { keeper.unload(&name).await });
    let unloaded =
        unloading.await.map_err(|error| Error::internal(format!("the unload itself failed: {error}")))?;
    unloaded.map_err(|_| unknown(model))
}

fn shortened(name: &str) -> String {
    name.chars().take(100).flat_map(char::escape_default).collect()
}

async fn read(state: &AppState, request: Request) -> Result<Map<String, Value>, Error> {
    let (head, body) = request.into_parts();
    let deadline = Instant::now() + state.request_timeout();
    let body = body::read(&head.headers, body, BODY, deadline, state.bodies()).await?;
    if body.is_empty() {
        return Ok(Map::new());
    }
    let control: Control = object(&body, "{\"parameters\": {…}}")?;
    Ok(control.parameters)
}
