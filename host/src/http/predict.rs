//! `POST /predict/{model}[/{version}]`: any body through the plugin, the plugin's answer back.
//!
//! Owns what of a request a plugin sees: the body, its media type, the query's pairs and the headers
//! that the operator selected.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use super::access::Served;
use super::body;
use super::state::AppState;
use super::target::Target;
use super::v2::wire;
use crate::error::{Error, ErrorCode};
use crate::pipeline::{self, Generation, PredictInput, PredictOutput, StageTimes};
use crate::plugin::{self, PluginRequest};
use crate::telemetry::Endpoint;

/// Names the version that answered.
pub(super) const MODEL_VERSION: HeaderName = HeaderName::from_static("x-nuke-model-version");

pub(super) async fn predict(
    State(state): State<AppState>,
    target: Target,
    request: Request,
) -> Result<Response, Error> {
    let started = Instant::now();
    let deadline = started + state.request_timeout();
    let generation = state.index().find(&target.model, target.version.as_deref())?;
    let (head, body) = request.into_parts();
    let body = body::read(&head.headers, body, state.max_body(), deadline).await?;

    let _in_flight = generation.metrics().enter();
    let mut times = StageTimes::default();
    let answer = answer(&state, &generation, (&head.headers, &head.uri, body), deadline, &mut times).await;
    let outcome = answer.as_ref().map(|_| ()).map_err(|error| error.code);
    generation.metrics().finished(Endpoint::Predict, outcome, started.elapsed(), &times);
    Ok(sign(answer.unwrap_or_else(Error::into_response), &generation, times))
}

/// Names what served, in a header for the client and in an extension for the log.
pub(super) fn sign(mut response: Response, generation: &Generation, times: StageTimes) -> Response {
    if let Ok(version) = HeaderValue::from_str(generation.version()) {
        response.headers_mut().insert(MODEL_VERSION, version);
    }
    response.extensions_mut().insert(Served {
        model: generation.model().to_owned(),
        version: generation.version().to_owned(),
        times,
    });
    response
}

async fn answer(
    state: &AppState,
    generation: &Generation,
    (headers, uri, body): (&HeaderMap, &Uri, Bytes),
    deadline: Instant,
    times: &mut StageTimes,
) -> Result<Response, Error> {
    let parameters = parameters(state, headers, uri);
    let has_preprocessor = generation.plugin().is_some_and(|plugin| plugin.contract().preprocessor);
    let input = if has_preprocessor {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        PredictInput::Body(PluginRequest {
            content_type: content_type.unwrap_or_default().to_owned(),
            body,
            parameters,
        })
    } else {
        PredictInput::Tensors(wire::read(generation, headers, &body, state.max_body())?.inputs, parameters)
    };
    match pipeline::predict(generation, input, deadline, times).await? {
        PredictOutput::Body(response) => plugin_answer(generation, response),
        PredictOutput::Tensors(outputs) => wire::write_json(generation, outputs),
    }
}

/// The query's pairs in order, then the selected headers as `header:<name>`.
fn parameters(state: &AppState, headers: &HeaderMap, uri: &Uri) -> Arc<[(String, String)]> {
    let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let query = query.map(|(name, value)| (name.into_owned(), value.into_owned()));
    let selected = state.forwarded_headers().iter().flat_map(|name| {
        let values = headers.get_all(name).into_iter();
        values.map(move |value| {
            (format!("header:{name}"), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
    });
    query.chain(selected).collect()
}

fn plugin_answer(generation: &Generation, answer: plugin::Response) -> Result<Response, Error> {
    let fault = |what: String| {
        let plugin = generation.plugin().map_or("", |plugin| plugin.name());
        Error::new(ErrorCode::PluginFault, format!("plugin '{plugin}' answered with {what}"))
    };
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
