//! `/admin/models/{model}/traffic`, `…/feedback` and `…/rollout`: who answers, and what is learnt of it.
//!
//! Owns the bodies of these requests. Policies are read by the configuration, so that a request and a
//! `model.yaml` are held to the same rules; what is set is kept by the repository before it counts.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::{object, to_its_end};
use crate::config::Colour;
use crate::error::{Error, ErrorCode};
use crate::http::openapi::schemas;
use crate::http::state::AppState;
use crate::http::target::WholeModel;
use crate::http::{body, reply};
use crate::repository::{SetError, traffic_policy};
use crate::traffic::{Command, FeedbackError};

/// Bytes that a body may have.
const BODY: usize = 64 << 10;
/// The name that problems of a body are told under.
const BODY_NAME: &str = "body";

#[utoipa::path(
    get,
    path = "/admin/models/{model}/traffic",
    tag = "admin",
    params(("model" = String, Path, description = "the model's name")),
    responses((status = 200, description = "answered", body = schemas::TrafficAnswer))
)]
pub(in crate::http) async fn show(
    State(state): State<AppState>,
    target: WholeModel,
) -> Result<Response, Error> {
    let traffic = state.index().traffic(&target.model)?;
    let set = state.steering().set(&target.model);
    let source = if set.is_some() { "admin" } else { "model.yaml" };
    let shared = state.steering().shared(&target.model);
    let shared = shared.map(|shared| json!({"revision": shared.revision, "everywhere": shared.is_shared}));
    let status = traffic.status();
    let body =
        json!({"model": target.model, "source": source, "set": set, "shared": shared, "status": status});
    Ok(reply::ok(&body))
}

/// Kept and in effect, or neither.
#[utoipa::path(
    put,
    path = "/admin/models/{model}/traffic",
    tag = "admin",
    params(("model" = String, Path, description = "the model's name")),
    request_body(
        content((schemas::Anything = "application/json"), (String = "application/yaml")),
        description = "what `traffic` is in model.yaml"
    ),
    responses((status = 200, description = "answered", body = schemas::TrafficAnswer))
)]
pub(in crate::http) async fn set(
    State(state): State<AppState>,
    target: WholeModel,
    request: Request,
) -> Result<Response, Error> {
    let traffic = state.index().traffic(&target.model)?;
    let body = body::of(request, BODY, &state).await?;
    let text = std::str::from_utf8(&body).map_err(|_| Error::invalid("the body is not UTF-8"))?;
    let says_nothing =
        |line: &str| matches!(line.trim(), "" | "null" | "~" | "---") || line.trim().starts_with('#');
    if text.lines().all(says_nothing) {
        let message =
            "the body is empty; expected what 'traffic' is in model.yaml, such as {strategy: latest}";
        return Err(Error::invalid(message));
    }
    traffic_policy(BODY_NAME, text, &traffic.labels()).map_err(Error::invalid)?;
    change(&state, &target.model, Some(text.to_owned())).await?;
    show(State(state), target).await
}

/// Back to `model.yaml`.
#[utoipa::path(
    delete,
    path = "/admin/models/{model}/traffic",
    tag = "admin",
    params(("model" = String, Path, description = "the model's name")),
    responses((status = 200, description = "answered", body = schemas::TrafficAnswer))
)]
pub(in crate::http) async fn clear(
    State(state): State<AppState>,
    target: WholeModel,
) -> Result<Response, Error> {
    state.index().traffic(&target.model)?;
    change(&state, &target.model, None).await?;
    show(State(state), target).await
}

async fn change(state: &AppState, model: &str, text: Option<String>) -> Result<(), Error> {
    let (steering, keeper, name) = (state.steering().clone(), state.keeper().clone(), model.to_owned());
    let changing = async move { steering.set_traffic(&keeper, &name, text).await };
    let changed = to_its_end("change", changing).await?;
    changed.map_err(|error| match error {
        SetError::NotKept(reason) => Error::new(ErrorCode::Unavailable, reason),
        SetError::NotReady(reason) => {
            Error::new(ErrorCode::Conflict, format!("traffic of '{model}' stays as it is: {reason}"))
        }
    })
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    active: Option<Colour>,
}

/// Blue to green and back.
#[utoipa::path(
    post,
    path = "/admin/models/{model}/traffic/switch",
    tag = "admin",
    params(("model" = String, Path, description = "the model's name")),
    request_body(content = Option<schemas::Switch>, content_type = "application/json"),
    responses((status = 200, description = "answered", body = schemas::TrafficAnswer))
)]
pub(in crate::http) async fn switch(
    State(state): State<AppState>,
    target: WholeModel,
    request: Request,
) -> Result<Response, Error> {
    let body = body::of(request, BODY, &state).await?;
    let wanted: Switch = match body.as_ref() {
        [] => Switch::default(),
        text => object(text, "{\"active\": \"green\"}")?,
    };
    command(state, target, Command::Switch(wanted.active)).await
}

/// A rollout's end, or its beginning once more.
#[utoipa::path(
    post,
    path = "/admin/models/{model}/rollout/{action}",
    tag = "admin",
    params(("model" = String, Path, description = "the model's name"), ("action" = schemas::RolloutAction, Path, description = "what becomes of the rollout")),
    responses((status = 200, description = "answered", body = schemas::TrafficAnswer))
)]
pub(in crate::http) async fn rollout(
    State(state): State<AppState>,
    Path((_, action)): Path<(String, String)>,
    target: WholeModel,
) -> Result<Response, Error> {
    let wanted = match action.as_str() {
        "promote" => Command::Promote,
        "abort" => Command::Abort,
        "retry" => Command::Retry,
        _ => {
            let message = "there are only promote, abort and retry below rollout";
            return Err(Error::new(ErrorCode::NotFound, message));
        }
    };
    command(state, target, wanted).await
}

async fn command(state: AppState, target: WholeModel, command: Command) -> Result<Response, Error> {
    let traffic = state.index().traffic(&target.model)?;
    let (steering, model) = (state.steering().clone(), target.model.clone());
    let commanding = async move { steering.command(&model, &traffic, command).await };
    let done = to_its_end("command", commanding).await?;
    let event = done
        .map_err(|reason| Error::new(ErrorCode::Conflict, format!("model '{}': {reason}", target.model)))?;
    tracing::info!(model = target.model, reason = event.reason, "an operator has moved traffic");
    show(State(state), target).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Feedback {
    arm: Option<String>,
    version: Option<String>,
    reward: f64,
}

/// A reward for an arm, or for the version behind one.
#[utoipa::path(
    post,
    path = "/admin/models/{model}/feedback",
    tag = "admin",
    params(("model" = String, Path, description = "the model's name")),
    request_body(content = schemas::Feedback, content_type = "application/json"),
    responses((status = 200, description = "answered", body = schemas::FeedbackTaken))
)]
pub(in crate::http) async fn feedback(
    State(state): State<AppState>,
    target: WholeModel,
    request: Request,
) -> Result<Response, Error> {
    let traffic = state.index().traffic(&target.model)?;
    let body = body::of(request, BODY, &state).await?;
    let given: Feedback = object(&body, "{\"arm\": \"a\", \"reward\": 1.0}")?;
    let arm = match (given.arm, given.version) {
        (Some(arm), None) | (None, Some(arm)) => arm,
        _ => {
            return Err(Error::invalid(
                "expected either an arm or a version, such as the answer's x-nuke-traffic-arm",
            ));
        }
    };
    traffic.feedback(&arm, given.reward).map_err(|error| {
        let code = match error {
            FeedbackError::NotAsked(_) => ErrorCode::Conflict,
            FeedbackError::UnknownArm(_) | FeedbackError::OutOfRange(_) => ErrorCode::InvalidArgument,
        };
        Error::new(code, format!("model '{}': {error}", target.model))
    })?;
    Ok(reply::ok(&json!({"model": target.model, "arm": arm})))
}
