//! `POST /predict/{model}[/{version}]`: any body through the plugin, the plugin's answer back.
//!
//! Owns what of a request a plugin sees: the body, its media type, the query's pairs and the headers
//! that the operator selected.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use super::openapi::schemas;
use super::serving::Serving;
use super::state::AppState;
use super::target::Target;
use super::v2::{infer, wire};
use crate::error::{Error, ErrorCode};
use crate::pipeline::{self, Asked, PredictInput, PredictOutput};
use crate::plugin::{self, Plugin, PluginRequest};
use crate::telemetry::Endpoint;

#[utoipa::path(
    post,
    path = "/predict/{model}",
    tag = "predict",
    params(("model" = String, Path, description = "the model's name, or `name@version`")),
    request_body(content = schemas::AnyBytes, content_type = "*/*", description = "whatever the model's plugin reads"),
    responses((status = 200, description = "whatever the model's plugin answers", content_type = "*/*"))
)]
pub(super) async fn predict(
    State(state): State<AppState>,
    target: Target,
    request: Request,
) -> Result<Response, Error> {
    let (head, mut body) = request.into_parts();
    let mut serving = Serving::begin(&state, &target, Endpoint::Predict, (&head, &mut body)).await?;
    let answer = answer(&state, &mut serving, &head, body).await;
    Ok(serving.finish(answer))
}

async fn answer(
    state: &AppState,
    serving: &mut Serving,
    head: &Parts,
    body: Body,
) -> Result<Response, Error> {
    let parameters = parameters(state, &head.headers, &head.uri)?;
    let body = serving.body(state, &head.headers, body).await?;
    let deadline = serving.deadline(state, None);
    let generation = serving.generation(state, deadline).await?;
    let Some(plugin) = generation.plugin() else {
        return infer::answer(state, serving, &head.headers, &body).await;
    };
    let input = if plugin.contract().preprocessor {
        let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        PredictInput::Body(PluginRequest { content_type, body, parameters })
    } else {
        let request = wire::resolve(&generation, wire::parse(&head.headers, &body, state.max_body())?)?;
        infer::refuse_unserved(&request)?;
        PredictInput::Tensors(request.inputs, parameters)
    };
    let kept = serving.keep(|| Asked::Predict(input.clone()));
    let output =
        pipeline::predict(&generation, input, deadline, &mut serving.visit, &mut serving.times).await;
    if kept.is_some() {
        serving.mirror(state, kept, output.clone().map_err(|error| error.code));
    }
    match output? {
        PredictOutput::Body(response) => plugin_answer(plugin, response),
        PredictOutput::Tensors(outputs) => wire::write_json(&generation, outputs),
    }
}

/// How the names of parameters that come from headers begin.
const HEADER_PREFIX: &str = "header:";

/// The query's pairs in order, then the selected headers as `header:<name>`.
fn parameters(state: &AppState, headers: &HeaderMap, uri: &Uri) -> Result<Arc<[(String, String)]>, Error> {
    let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let query = query.map(|(name, value)| (name.into_owned(), value.into_owned()));
    let query: Vec<_> = query.collect();
    // A plugin may trust what its proxy sends as a header: a query must not pass for one.
    if query.iter().any(|(name, _)| name.starts_with(HEADER_PREFIX)) {
        return Err(Error::invalid(format!(
            "a query parameter's name must not begin with '{HEADER_PREFIX}'"
        )));
    }
    let selected = state.forwarded_headers().iter().flat_map(|name| {
        let values = headers.get_all(name).into_iter();
        values.map(move |value| {
            (format!("{HEADER_PREFIX}{name}"), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
    });
    Ok(query.into_iter().chain(selected).collect())
}

/// Headers that a plugin may add to its answer, and bytes of them.
const MOST_HEADERS: usize = 64;
const HEADER_BYTES: usize = 16 << 10;

fn plugin_answer(plugin: &Plugin, answer: plugin::Response) -> Result<Response, Error> {
    let fault = |what: String| {
        Error::new(ErrorCode::PluginFault, format!("plugin '{}' answered with {what}", plugin.name()))
    };
    let size: usize = answer.parameters.iter().map(|(name, value)| name.len() + value.len()).sum();
    if answer.parameters.len() > MOST_HEADERS || size > HEADER_BYTES {
        let count = answer.parameters.len();
        return Err(fault(format!(
            "{count} parameters of {size} bytes; {MOST_HEADERS} of {HEADER_BYTES} bytes are the most"
        )));
    }
    let mut response = answer.body.into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    if !answer.content_type.is_empty() {
        let value = HeaderValue::from_str(&answer.content_type);
        let value =
            value.map_err(|_| fault(format!("the content type {:?}, which is none", answer.content_type)))?;
        headers.insert(header::CONTENT_TYPE, value);
    }
    for (name, value) in &answer.parameters {
        let header_name = HeaderName::try_from(format!("nuke-{name}"));
        let header_name =
            header_name.map_err(|_| fault(format!("the parameter {name:?}, which is no header name")))?;
        let header_value = HeaderValue::from_str(value);
        let header_value = header_value
            .map_err(|_| fault(format!("a value of parameter {name:?} that no header can carry")))?;
        headers.append(header_name, header_value);
    }
    Ok(response)
}
