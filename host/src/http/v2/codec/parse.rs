//! A request's body, cut into its JSON part and the tensors behind it.
//!
//! Owns the `Inference-Header-Content-Length` header, the order of binary tensors, and the raw
//! binary request. Binary tensors are slices of the body, never copies.

use bytes::Bytes;

use super::envelope::{self, Input};
use super::fault::shorten;
use super::request::{Body, InferRequest, Limits};
use crate::error::Error;
use crate::model::tensor::{DataType, Tensor, check_span, push_bytes_element};

/// The header that says how many bytes of a body are JSON, in requests and answers.
pub const HEADER_LENGTH: &str = "Inference-Header-Content-Length";

/// The number of bytes that the header's value announces.
///
/// # Errors
/// `InvalidArgument`, naming the header, unless the value is an integer of 0 or more.
pub fn header_length(value: &[u8]) -> Result<usize, Error> {
    let text = str::from_utf8(value).unwrap_or_default().trim_matches([' ', '\t']);
    // `parse` alone would take a leading plus sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| {
        let shown = shorten(&String::from_utf8_lossy(value).escape_default().to_string());
        Error::invalid(format!(
            "header {HEADER_LENGTH}: expected a count of bytes, an integer of 0 or more, got '{shown}'"
        ))
    })
}

/// Reads a request's body; `length` is the value of [`HEADER_LENGTH`], if the request has it.
///
/// # Errors
/// `InvalidArgument` that names the field, the tensor or the header; `PayloadTooLarge` if JSON data
/// decodes to more than `limits` allow; `Unimplemented` for shared memory.
pub fn parse(body: &Bytes, length: Option<usize>, limits: &Limits) -> Result<Body, Error> {
    if length == Some(0) {
        return Ok(Body::Raw(body.clone()));
    }
    let json_length = length.unwrap_or(body.len());
    let json = body.get(..json_length).ok_or_else(|| {
        Error::invalid(format!(
            "header {HEADER_LENGTH}: {json_length} bytes of JSON are announced, but the body has only {}",
            body.len()
        ))
    })?;
    let text = str::from_utf8(json).map_err(|error| {
        Error::invalid(format!("request body: the JSON part is not UTF-8 at byte {}", error.valid_up_to()))
    })?;
    let read = envelope::read(text, limits)?;
    let inputs = attach(read.inputs, body.slice(json_length..), length.is_some(), limits.decoded_bytes)?;
    Ok(Body::Request(InferRequest {
        id: read.id,
        parameters: read.parameters,
        inputs,
        outputs: read.outputs,
        default_binary: read.default_binary,
    }))
}

/// Gives each binary input its slice of `blobs`, in order. A shape may span `most_bytes`.
fn attach(
    inputs: Vec<Input>,
    mut blobs: Bytes,
    has_header: bool,
    most_bytes: usize,
) -> Result<Vec<Tensor>, Error> {
    let mut tensors = Vec::with_capacity(inputs.len());
    for input in inputs {
        tensors.push(match input {
            Input::Json(tensor) => tensor,
            Input::Binary { name, size, .. } if !has_header && size > 0 => {
                return Err(Error::invalid(format!(
                    "input '{name}' has binary_data_size {size}, but the request has no {HEADER_LENGTH} header"
                )));
            }
            Input::Binary { name, datatype, shape, size } => {
                let taken = usize::try_from(size).ok().filter(|&size| size <= blobs.len()).ok_or_else(|| {
                    Error::invalid(format!(
                        "input '{name}': binary_data_size is {size}, but only {} bytes are left in the body",
                        blobs.len()
                    ))
                })?;
                check_span(&name, datatype, &shape, most_bytes)?;
                Tensor::new(name, datatype, shape, blobs.split_to(taken))?
            }
        });
    }
    if blobs.is_empty() {
        return Ok(tensors);
    }
    Err(Error::invalid(format!(
        "the body has bytes left after the JSON part and all inputs with a binary_data_size: {}",
        blobs.len()
    )))
}

/// The request that a raw body stands for: it is the model's only input, and all outputs are to be
/// sent in the binary form.
///
/// `shape` is the input's, with -1 for a dimension that varies, of which the body decides one at
/// most; a caller that knows which dimension is the batch passes 1 there. A BYTES input takes the
/// whole body as its one element, without a length before it.
///
/// # Errors
/// `InvalidArgument`, naming the input, if the shape leaves more than one dimension open, or the
/// body does not fill it.
pub fn raw_request(
    body: Bytes,
    name: &str,
    datatype: DataType,
    shape: &[i64],
) -> Result<InferRequest, Error> {
    let open = shape.iter().filter(|&&dimension| dimension < 0).count();
    let refused = |reason: String| Error::invalid(format!("raw binary request for input '{name}': {reason}"));
    if open > 1 {
        return Err(refused(format!(
            "{open} dimensions of its shape {shape:?} vary, a raw body can decide one at most, send the shape in JSON"
        )));
    }
    let (length, width, data) = match datatype.width() {
        Some(width) => (body.len(), width, body),
        None => {
            let mut data = Vec::with_capacity(body.len().saturating_add(4));
            push_bytes_element(&mut data, &body)?;
            (1, 1, data.into())
        }
    };
    let fixed = shape
        .iter()
        .filter(|&&dimension| dimension >= 0)
        .try_fold(width, |product, &dimension| product.checked_mul(usize::try_from(dimension).ok()?))
        .ok_or_else(|| refused(format!("shape {shape:?} has more elements than memory could hold")))?;
    let decided = if open == 0 { 1 } else { length.checked_div(fixed).unwrap_or_default() };
    if fixed.checked_mul(decided) != Some(length) {
        let unit = if datatype == DataType::Bytes { "elements" } else { "bytes" };
        let wanted = if open == 0 { "exactly" } else { "a multiple of" };
        return Err(refused(format!(
            "{datatype} of shape {shape:?} takes {wanted} {fixed} {unit}, the body is {length} {unit}"
        )));
    }
    let shape = shape.iter().map(|&dimension| usize::try_from(dimension).unwrap_or(decided)).collect();
    let input = Tensor::new(name, datatype, shape, data)?;
    Ok(InferRequest {
        id: None,
        parameters: vec![],
        inputs: vec![input],
        outputs: vec![],
        default_binary: true,
    })
}
