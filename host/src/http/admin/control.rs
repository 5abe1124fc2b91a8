//! `POST /v2/repository/models/{model}/load` and `…/unload`, as Triton's clients use them.
//!
//! Owns the bodies of these requests. What loading means is the repository's: a load answers when the model's
//! versions serve or have failed.

use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::models::unknown;
use super::{object, to_its_end};
use crate::error::{Error, ErrorCode, shown};
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
    Ok(reply::ok(&json!({"name": target.model, "versions": versions})))
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
            shown(name, 100)
        );
        return Err(Error::new(ErrorCode::Unimplemented, message));
    }
    let (keeper, name) = (state.keeper().clone(), model.to_owned());
    let loaded = to_its_end("load", async move { keeper.load(&name).await }).await?;
    loaded.map_err(|reason| {
        let known = state.index().all().contains_key(model);
        let message = format!("failed to load '{}': {reason}", shown(model, 100));
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
    Ok(reply::ok(&json!({"name": target.model})))
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
            shown(name, 100)
        )));
    }
    let (keeper, name) = (state.keeper().clone(), model.to_owned());
    let unloaded = to_its_end("unload", async move { keeper.unload(&name).await }).await?;
    unloaded.map_err(|_| unknown(model))
}

async fn read(state: &AppState, request: Request) -> Result<Map<String, Value>, Error> {
    let body = body::of(request, BODY, state).await?;
    if body.is_empty() {
        return Ok(Map::new());
    }
    let control: Control = object(&body, "{\"parameters\": {…}}")?;
    Ok(control.parameters)
}
