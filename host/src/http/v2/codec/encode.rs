//! An inference answer as the protocol's body.
//!
//! Owns the order of the answer's keys, which outputs go behind the JSON, and when the header is
//! sent. Binary outputs are passed on, never copied.

use std::io::Write;

use bytes::Bytes;

use super::request::{ParameterValue, Parameters};
use super::write;
use crate::error::Error;
use crate::model::tensor::Tensor;

/// One output and the form it is sent in.
#[derive(Clone, Debug)]
pub struct ResponseOutput {
    /// The output's name, datatype, shape and elements.
    pub tensor: Tensor,
    /// Send the elements as bytes behind the JSON.
    pub binary: bool,
}

/// One inference answer.
#[derive(Clone, Debug)]
pub struct InferResponse<'a> {
    /// The request's id, if it had one.
    pub id: Option<&'a str>,
    /// The model that answered.
    pub model_name: &'a str,
    /// The version that answered.
    pub model_version: &'a str,
    /// The answer's parameters; the key is left out if there are none.
    pub parameters: &'a Parameters,
    /// The outputs, in the order they are sent.
    pub outputs: Vec<ResponseOutput>,
}

/// An answer's body, in pieces: `head`, then `blobs`.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The JSON.
    pub head: Vec<u8>,
    /// The bytes of the binary outputs, in order, without empty ones.
    pub blobs: Vec<Bytes>,
    /// The value of [`HEADER_LENGTH`](super::HEADER_LENGTH); `None` if it is not to be sent, because
    /// nothing comes after the JSON.
    pub json_length: Option<usize>,
}

impl Encoded {
    /// The answer's media type.
    pub const fn content_type(&self) -> &'static str {
        if self.json_length.is_some() { "application/octet-stream" } else { "application/json" }
    }

    /// The body's length in bytes.
    pub fn content_length(&self) -> usize {
        self.blobs.iter().fold(self.head.len(), |sum, blob| sum.saturating_add(blob.len()))
    }
}

/// Writes the answer.
///
/// Floats in JSON are the shortest text that reads back as the same value. NaN and infinity have no
/// JSON form, and a `null` in their place would reach most clients as a crash or a silent zero, so
/// they are refused; so are FP16, BF16, and BYTES that are not UTF-8.
///
/// # Errors
/// `InvalidArgument`, naming the output and telling to request it in the binary form, if an output
/// wanted in JSON has no JSON form; `Internal` if a tensor's bytes do not fit its shape.
pub fn encode(response: &InferResponse<'_>) -> Result<Encoded, Error> {
    let outputs = &response.outputs;
    let in_json = outputs.iter().filter(|output| !output.binary);
    let space = in_json
        .fold(256 + 160 * outputs.len(), |sum, output| sum.saturating_add(write::space(&output.tensor)));
    let mut head = Vec::with_capacity(space);
    let mut blobs = Vec::new();
    head.push(b'{');
    if let Some(id) = response.id {
        write::key(&mut head, "id");
        write::string(&mut head, id);
        head.push(b',');
    }
    write::key(&mut head, "model_name");
    write::string(&mut head, response.model_name);
    head.push(b',');
    write::key(&mut head, "model_version");
    write::string(&mut head, response.model_version);
    if !response.parameters.is_empty() {
        head.push(b',');
        write::key(&mut head, "parameters");
        write_parameters(&mut head, response.parameters)?;
    }
    head.push(b',');
    write::key(&mut head, "outputs");
    head.push(b'[');
    for (index, output) in outputs.iter().enumerate() {
        if index > 0 {
            head.push(b',');
        }
        write_output(&mut head, output)?;
        if output.binary && !output.tensor.data.is_empty() {
            blobs.push(output.tensor.data.clone());
        }
    }
    head.extend_from_slice(b"]}");
    let json_length = (!blobs.is_empty()).then_some(head.len());
    Ok(Encoded { head, blobs, json_length })
}

fn write_output(head: &mut Vec<u8>, output: &ResponseOutput) -> Result<(), Error> {
    let tensor = &output.tensor;
    check(tensor)?;
    head.push(b'{');
    write::key(head, "name");
    write::string(head, &tensor.name);
    head.push(b',');
    write::key(head, "datatype");
    write::string(head, tensor.datatype.as_str());
    head.push(b',');
    write::key(head, "shape");
    write::integers(head, tensor.shape.iter().copied());
    head.push(b',');
    if output.binary {
        write::key(head, "parameters");
        print(head, format_args!("{{\"binary_data_size\":{}}}", tensor.data.len()));
    } else {
        write::key(head, "data");
        write::elements(head, tensor)?;
    }
    head.push(b'}');
    Ok(())
}

fn check(tensor: &Tensor) -> Result<(), Error> {
    let Some(width) = tensor.datatype.width() else { return Ok(()) };
    if tensor.element_count()?.checked_mul(width) == Some(tensor.data.len()) {
        return Ok(());
    }
    Err(Error::internal(format!(
        "output '{}': {} bytes do not fill {} of shape {:?}",
        tensor.name,
        tensor.data.len(),
        tensor.datatype,
        tensor.shape
    )))
}

fn write_parameters(head: &mut Vec<u8>, parameters: &Parameters) -> Result<(), Error> {
    head.push(b'{');
    for (index, (name, value)) in parameters.iter().enumerate() {
        if index > 0 {
            head.push(b',');
        }
        write::key(head, name);
        match value {
            ParameterValue::Bool(value) => print(head, format_args!("{value}")),
            ParameterValue::Int(value) => print(head, format_args!("{value}")),
            ParameterValue::Uint(value) => print(head, format_args!("{value}")),
            ParameterValue::Double(value) if value.is_finite() => write::double(head, *value),
            ParameterValue::Double(value) => {
                return Err(Error::internal(format!(
                    "response parameter '{name}': {value} has no JSON form"
                )));
            }
            ParameterValue::String(value) => write::string(head, value),
        }
    }
    head.push(b'}');
    Ok(())
}

fn print(head: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing into a vector cannot fail.
    drop(head.write_fmt(text));
}
