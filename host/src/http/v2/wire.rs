//! Between an HTTP request and the codec.
//!
//! Owns which headers decide how a body is read, the raw binary form, and the answer's headers.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::StreamBody;

use super::classification::classify;
use super::codec::{self, InferRequest, InferResponse, Limits, ResponseOutput};
use crate::error::Error;
use crate::model::tensor::Tensor;
use crate::pipeline::Generation;

/// Reads a body, of which no model need be known.
pub(in crate::http) fn parse(
    headers: &HeaderMap,
    body: &Bytes,
    max_body: usize,
) -> Result<codec::Body, Error> {
    let length = header_length(headers)?;
    let limits = Limits { decoded_bytes: max_body, ..Limits::default() };
    let json = length.unwrap_or(body.len());
    off_the_reactor(json, || codec::parse(body, length, &limits))
}

/// Makes of a body the request that it is for this model.
pub(in crate::http) fn resolve(generation: &Generation, body: codec::Body) -> Result<InferRequest, Error> {
    match body {
        codec::Body::Request(request) => Ok(request),
        codec::Body::Raw(raw) => {
            let [input] = generation.signature().inputs.as_slice() else {
                return Err(Error::invalid(format!(
                    "a raw binary request needs a model with one input; model '{}' has {}",
                    generation.model(),
                    generation.signature().inputs.len()
                )));
            };
            codec::raw_request(raw, &input.name, input.datatype, &input.shape)
        }
    }
}

/// Binary tensors are version 2's alone.
pub(in crate::http) fn refuse_binary(headers: &HeaderMap) -> Result<(), Error> {
    match header_length(headers)? {
        None => Ok(()),
        Some(_) => Err(Error::invalid("binary tensors are served by /v2 alone; send JSON here")),
    }
}

/// How much of the body is JSON, if a header says so.
fn header_length(headers: &HeaderMap) -> Result<Option<usize>, Error> {
    let mut values = headers.get_all(codec::HEADER_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.any(|other| other != value) {
        return Err(Error::invalid(format!(
            "header {} is given more than once, and differs",
            codec::HEADER_LENGTH
        )));
    }
    codec::header_length(value.as_bytes()).map(Some)
}

/// Writes outputs as the request asks for each.
pub(super) fn write(
    generation: &Generation,
    request: &InferRequest,
    outputs: Vec<Tensor>,
) -> Result<Response, Error> {
    let output = |tensor: Tensor| {
        let binary = request.wants_binary(&tensor.name);
        ResponseOutput { tensor, binary }
    };
    let outputs = classified(generation, request, outputs)?.into_iter().map(output).collect();
    encode(generation, request.id.as_deref(), outputs)
}

/// The outputs, with their greatest elements in the place of those of which the request asks for these.
pub(crate) fn classified(
    generation: &Generation,
    request: &InferRequest,
    outputs: Vec<Tensor>,
) -> Result<Vec<Tensor>, Error> {
    let output = |tensor: Tensor| {
        let Some(count) = request.classes(&tensor.name) else {
            return Ok(tensor);
        };
        let (has_rows, labels) = (has_rows(generation, &tensor.name), generation.labels(&tensor.name));
        off_the_reactor(tensor.data.len(), || classify(&tensor, count, has_rows, labels))
    };
    outputs.into_iter().map(output).collect()
}

/// Whether the first dimension of an output is one that requests choose: each of its rows is an answer of its own.
fn has_rows(generation: &Generation, output: &str) -> bool {
    let mut outputs = generation.signature().outputs.iter();
    let spec = outputs.find(|spec| spec.name == output);
    spec.and_then(|spec| spec.shape.first()).is_some_and(|&dimension| dimension < 0)
}

/// Writes all outputs as JSON.
pub(in crate::http) fn write_json(generation: &Generation, outputs: Vec<Tensor>) -> Result<Response, Error> {
    let outputs = outputs.into_iter().map(|tensor| ResponseOutput { tensor, binary: false }).collect();
    encode(generation, None, outputs)
}

fn encode(
    generation: &Generation,
    id: Option<&str>,
    outputs: Vec<ResponseOutput>,
) -> Result<Response, Error> {
    let json = outputs.iter().filter(|output| !output.binary).map(|output| output.tensor.data.len()).sum();
    let response = InferResponse {
        id,
        model_name: generation.model(),
        model_version: generation.version(),
        parameters: &Vec::new(),
        outputs,
    };
    let encoded = off_the_reactor(json, || codec::encode(&response))?;
    let mut response = Response::builder()
        .status(StatusCode::OK)
        .header(header::CONTENT_TYPE, encoded.content_type())
        .header(header::CONTENT_LENGTH, encoded.content_length());
    if let Some(length) = encoded.json_length {
        response = response.header(codec::HEADER_LENGTH, HeaderValue::from(length));
    }
    let body = if encoded.blobs.is_empty() { Body::from(encoded.head) } else { joined(encoded) };
    response.body(body).map_err(|error| Error::internal(format!("the answer cannot be written: {error}")))
}

/// JSON from this size on takes milliseconds, which other connections of the thread must not wait for.
const HEAVY: usize = 256 << 10;

/// Runs `work` so that other connections do not wait for it, if it has so many bytes to read or write.
pub(crate) fn off_the_reactor<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes < HEAVY { work() } else { tokio::task::block_in_place(work) }
}

/// Blobs up to this size are copied behind the JSON: one write is cheaper than two frames.
const COPIED: usize = 64 << 10;

fn joined(encoded: codec::Encoded) -> Body {
    let total = encoded.content_length();
    if total <= COPIED {
        let mut whole = encoded.head;
        whole.reserve_exact(total - whole.len());
        for blob in &encoded.blobs {
            whole.extend_from_slice(blob);
        }
        return Body::from(whole);
    }
    let parts = std::iter::once(Bytes::from(encoded.head)).chain(encoded.blobs);
    let frames = parts.map(|part| Ok::<_, std::convert::Infallible>(http_body::Frame::data(part)));
    Body::new(StreamBody::new(futures_util::stream::iter(frames)))
}
