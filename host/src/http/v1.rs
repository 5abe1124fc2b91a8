//! Version 1 of the protocol, which KServe and TensorFlow Serving share: `/v1/models` and `…:predict`.
//!
//! Owns its routes and the order of its requests; tensors go through the same pipeline as those of version 2, without the
//! plugin.

use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use serde_json::json;

use super::authorise::Asker;
use super::openapi::schemas;
use super::reply;
use super::serving::Serving;
use super::state::AppState;
use super::target::{self, Target};
use super::v2::codec::rows;
use super::v2::{infer, wire};
use crate::auth::Need;
use crate::error::{Error, ErrorCode, shown};
use crate::scheduler::Terms;
use crate::telemetry::Endpoint;

/// The routes below `/v1`. What is asked of a model stands behind a colon in the last part of the path.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", get(ready).post(predict))
        .route("/v1/models/{model}/versions/{version}", get(ready).post(predict))
        .route("/v1/models/{model}/labels/{version}", get(ready).post(predict))
}

/// The names of the models that the caller sees.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "v1",
    responses((status = 200, description = "answered", body = schemas::V1Models))
)]
pub(super) async fn models(State(state): State<AppState>, Asker(caller): Asker) -> Response {
    let all = state.index().all();
    let names: Vec<_> = all.keys().filter(|name| caller.sees(name)).collect();
    reply::ok(&json!({"models": names}))
}

/// Whether a model serves: 200, or 503.
#[utoipa::path(
    get,
    path = "/v1/models/{model}",
    tag = "v1",
    params(("model" = String, Path, description = "the model's name, or `name@version`")),
    responses((status = 200, description = "answered", body = schemas::ModelReady), (status = 503, description = "it is not ready", body = schemas::ModelReady))
)]
pub(super) async fn ready(State(state): State<AppState>, target: Target) -> Result<Response, Error> {
    if target.version.as_deref().unwrap_or(&target.model).ends_with(PREDICT) {
        let error =
            Error::new(ErrorCode::MethodNotAllowed, "a path that ends in ':predict' takes POST alone");
        let mut response = error.into_response();
        response.headers_mut().insert(header::ALLOW, POST);
        return Ok(response);
    }
    match state.index().find(&target.model, target.version.as_deref()) {
        Ok(_) => Ok(reply::ok(&json!({"name": target.model, "ready": true}))),
        Err(error) if error.code == ErrorCode::Unavailable => {
            let body = json!({"name": target.model, "ready": false, "error": error.message});
            Ok(reply::not_ready(&body))
        }
        Err(error) => Err(error),
    }
}

/// Rows or whole tensors in, the same out.
#[utoipa::path(
    post,
    path = "/v1/models/{model}:predict",
    tag = "v1",
    params(("model" = String, Path, description = "the model's name, or `name@version`")),
    request_body(content = schemas::V1Request, content_type = "application/json"),
    responses((status = 200, description = "answered", body = schemas::V1Response))
)]
pub(super) async fn predict(
    State(state): State<AppState>,
    ToPredict(target): ToPredict,
    request: Request,
) -> Result<Response, Error> {
    let (head, mut body) = request.into_parts();
    let mut serving = Serving::begin(&state, &target, Endpoint::Infer, (&head, &mut body)).await?;
    let answer = match serving.body(&state, &head.headers, body).await {
        Ok(body) => answer(&state, &mut serving, &head.headers, &body).await,
        Err(error) => Err(error),
    };
    Ok(serving.finish(answer))
}

const GET: HeaderValue = HeaderValue::from_static("GET,HEAD");
const POST: HeaderValue = HeaderValue::from_static("POST");
/// How a path ends that is asked for a prediction.
const PREDICT: &str = ":predict";

/// The methods of a path of this version, which the table of routes does not know: it takes the verb for a part of the
/// model's name.
pub(super) fn allowed(path: &str) -> Option<HeaderValue> {
    path.strip_prefix("/v1/models/").map(|name| if name.ends_with(PREDICT) { POST } else { GET })
}

/// What a path that ends in `:predict` names.
pub(super) struct ToPredict(Target);

impl<S: Send + Sync> FromRequestParts<S> for ToPredict {
    type Rejection = Response;

    /// The caller is held against the name without the verb.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let target = target::read(parts, state).await.map_err(Error::into_response)?;
        let target = without_verb(target).map_err(not_a_verb)?;
        let Asker(caller) = Asker::of(parts).map_err(Error::into_response)?;
        caller.require(Need::Predict(&target.model)).map_err(Error::into_response)?;
        Ok(Self(target))
    }
}

/// A path without a verb is there for GET.
fn not_a_verb(error: Error) -> Response {
    let is_get = error.code == ErrorCode::MethodNotAllowed;
    let mut response = error.into_response();
    if is_get {
        response.headers_mut().insert(header::ALLOW, GET);
    }
    response
}

/// The target of a path that ends in `:predict`.
fn without_verb(target: Target) -> Result<Target, Error> {
    let named = target.version.as_deref().unwrap_or(&target.model);
    let missing = || Error::new(ErrorCode::MethodNotAllowed, "a POST to a model of /v1 ends in ':predict'");
    let (name, verb) = named.rsplit_once(':').ok_or_else(missing)?;
    if verb != "predict" {
        let verb = shown(verb, 40);
        let message = format!("':{verb}' is not served; ':predict' is");
        return Err(Error::new(ErrorCode::Unimplemented, message));
    }
    let name = name.to_owned();
    // The model's own '@' has been read before.
    Ok(match target.version {
        Some(_) => Target { version: Some(name), model: target.model },
        None => Target { version: None, model: name },
    })
}

async fn answer(
    state: &AppState,
    serving: &mut Serving,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Error> {
    wire::refuse_binary(headers)?;
    let deadline = serving.deadline(state, None);
    let generation = serving.generation(state, deadline).await?;
    let inputs = generation.signature().inputs.iter();
    let takes: Vec<rows::Takes<'_>> =
        inputs.map(|spec| (spec.name.as_str(), spec.datatype, spec.shape.len())).collect();
    let max_body = state.max_body();
    let request = wire::off_the_reactor(body.len(), || rows::read(body, &takes, max_body, deadline))?;
    let asked = (request.inputs, std::iter::empty());
    let outputs = infer::run_tensors(state, serving, &generation, asked, Terms::from(deadline)).await?;
    let size = outputs.iter().map(|output| output.data.len()).sum();
    let body = wire::off_the_reactor(size, || rows::write(&outputs, request.form))?;
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(model: &str, version: Option<&str>) -> Target {
        Target { model: model.to_owned(), version: version.map(str::to_owned) }
    }

    #[test]
    fn what_is_asked_stands_behind_the_colon() {
        let plain = without_verb(target("m:predict", None)).unwrap();
        assert_eq!((plain.model.as_str(), plain.version), ("m", None));
        let named = without_verb(target("m", Some("2:predict"))).unwrap();
        assert_eq!((named.model.as_str(), named.version.as_deref()), ("m", Some("2")));
        assert_eq!(without_verb(target("m", None)).unwrap_err().code, ErrorCode::MethodNotAllowed);
        assert_eq!(without_verb(target("m:explain", None)).unwrap_err().code, ErrorCode::Unimplemented);
        assert_eq!(without_verb(target("m", Some("1"))).unwrap_err().code, ErrorCode::MethodNotAllowed);
    }
}
