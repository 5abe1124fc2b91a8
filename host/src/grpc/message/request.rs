//! A `ModelInferRequest`, field by field.
//!
//! Owns which fields there are, what each may hold, and the path of the field that a failure names. Raw tensors are
//! slices of the message.

use bytes::Bytes;

use super::contents;
use super::parameters::{Allowance, Map};
use super::whole::WholeMessage;
use super::wire::{self, Fields, Value};
use crate::error::{Error, ErrorCode};
use crate::http::v2::codec::{
    InferRequest, Limits, ParameterValue, RequestedOutput, parameter, parameter_count, shorten,
};
use crate::model::tensor::{DataType, Tensor, check_span};

/// Dimensions of a shape, at most, as in JSON.
const MAX_DIMENSIONS: usize = 64;
/// Asks for the mark of a last answer, which for models with one answer each has.
const WANTS_FINAL: &str = "triton_enable_empty_final_response";

/// A request that has been split.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// What is asked for; all outputs are to be raw.
    pub request: InferRequest,
    /// Whether the answer is to say that it is the last one of its request.
    pub wants_final: bool,
}

/// What a message says of itself before it is split; each text possibly empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head<'a> {
    /// The model that is asked for.
    pub model: &'a str,
    /// The version, label or arm.
    pub version: &'a str,
    /// What comes back with the answer.
    pub id: &'a str,
    /// Bytes that describe inputs: what it costs to split them. Raw tensors cost nothing.
    pub described: usize,
}

/// Reads no more of a message than that.
///
/// # Errors
/// `InvalidArgument` if the message is none, or its names are no text.
pub fn head(message: &WholeMessage) -> Result<Head<'_>, Error> {
    let mut fields = Fields::new(&message.0, "request");
    let mut head = Head::default();
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, value) => head.model = wire::text(value, &"model_name")?,
            (2, value) => head.version = wire::text(value, &"model_version")?,
            (3, value) => head.id = wire::text(value, &"id")?,
            (5, Value::Bytes(input)) => head.described += input.len(),
            _ => {}
        }
    }
    Ok(head)
}

/// Splits a message.
///
/// # Errors
/// `InvalidArgument` that names the field or the tensor; `PayloadTooLarge` if typed contents take more than `limits`
/// allow; `Unimplemented` for shared memory.
pub fn split(message: &WholeMessage, limits: &Limits) -> Result<Split, Error> {
    let mut allowance = Allowance::new(limits.parameters);
    let (mut id, mut parameters) = ("", Map::default());
    let (mut inputs, mut outputs, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    let mut fields = Fields::new(&message.0, "request");
    while let Some((number, value)) = fields.next()? {
        match number {
            3 => id = wire::text(value, &"id")?,
            4 => parameters.add(value, "parameters", &mut allowance)?,
            5 => {
                let path = format!("inputs[{}]", inputs.len());
                within(inputs.len(), limits.inputs, "inputs")?;
                inputs.push(Input::read(wire::bytes(value, &path)?, &path, &mut allowance)?);
            }
            6 => {
                let path = format!("outputs[{}]", outputs.len());
                within(outputs.len(), limits.outputs, "outputs")?;
                outputs.push(read_output(wire::bytes(value, &path)?, &path, &mut allowance)?);
            }
            7 => {
                within(raw.len(), limits.inputs, "raw_input_contents")?;
                raw.push(wire::bytes(value, &"raw_input_contents")?);
            }
            _ => {}
        }
    }
    refuse_repeats(inputs.iter().map(|input| input.name), "input")?;
    refuse_repeats(outputs.iter().map(|output| output.name.as_str()), "output")?;
    let wants_final = matches!(parameters.remove(WANTS_FINAL), Some(ParameterValue::Bool(true)));
    let request = InferRequest {
        id: Some(id.to_owned()).filter(|id| !id.is_empty()),
        parameters: parameters.finish("parameters")?,
        inputs: attach(&message.0, inputs, &raw, limits)?,
        outputs,
        default_binary: true,
    };
    Ok(Split { request, wants_final })
}

/// An input whose elements are yet to come.
struct Input<'a> {
    name: &'a str,
    datatype: DataType,
    shape: Vec<usize>,
    /// The parts of its contents; protobuf lets a message come in several.
    contents: Vec<&'a [u8]>,
}

impl<'a> Input<'a> {
    fn read(message: &'a [u8], path: &str, allowance: &mut Allowance) -> Result<Self, Error> {
        let mut input = Self { name: "", datatype: DataType::Bool, shape: Vec::new(), contents: Vec::new() };
        let (mut datatype, mut parameters) = ("", Map::default());
        let mut fields = Fields::new(message, path);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => input.name = wire::text(value, &format_args!("{path}.name"))?,
                2 => datatype = wire::text(value, &format_args!("{path}.datatype"))?,
                3 => add_dimensions(&mut input.shape, value, path)?,
                4 => parameters.add(value, &format!("{path}.parameters"), allowance)?,
                5 => {
                    let part = wire::bytes(value, &format_args!("{path}.contents"))?;
                    if !part.is_empty() {
                        within(input.contents.len(), MAX_PARTS, "parts of contents")?;
                        input.contents.push(part);
                    }
                }
                _ => {}
            }
        }
        if input.name.is_empty() {
            return Err(Error::invalid(format!("{path}.name: a name is empty")));
        }
        let parsed = datatype.parse();
        input.datatype = parsed.map_err(|error| Error::invalid(format!("{path}.datatype: {error}")))?;
        let parameters = parameters.finish(&format!("{path}.parameters"))?;
        if parameter(&parameters, "shared_memory_region").is_some() {
            return Err(no_shared_memory("input", input.name));
        }
        Ok(input)
    }
}

/// Parts that one input's contents may come in.
const MAX_PARTS: usize = 1024;

/// Dimensions come one by one or packed.
fn add_dimensions(shape: &mut Vec<usize>, value: Value<'_>, path: &str) -> Result<(), Error> {
    let path = format!("{path}.shape");
    let mut add = |size: u64| {
        within(shape.len(), MAX_DIMENSIONS, &format!("dimensions in {path}"))?;
        let size = size.cast_signed();
        shape.push(usize::try_from(size).map_err(|_| {
            Error::invalid(format!("{path}: {size} is no size of a dimension, an integer of 0 or more"))
        })?);
        Ok(())
    };
    match value {
        Value::Varint(size) => add(size),
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                let size = prost::encoding::decode_varint(&mut packed);
                add(size.map_err(|error| Error::invalid(format!("{path}: {error}")))?)?;
            }
            Ok(())
        }
        Value::Fixed32(_) | Value::Fixed64(_) => Err(wire::mistyped(&path)),
    }
}

fn read_output(message: &[u8], path: &str, allowance: &mut Allowance) -> Result<RequestedOutput, Error> {
    let (mut name, mut parameters) = ("", Map::default());
    let mut fields = Fields::new(message, path);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => name = wire::text(value, &format_args!("{path}.name"))?,
            2 => parameters.add(value, &format!("{path}.parameters"), allowance)?,
            _ => {}
        }
    }
    if name.is_empty() {
        return Err(Error::invalid(format!("{path}.name: a name is empty")));
    }
    let path = format!("{path}.parameters");
    let parameters = parameters.finish(&path)?;
    if parameter(&parameters, "shared_memory_region").is_some() {
        return Err(no_shared_memory("output", name));
    }
    Ok(RequestedOutput {
        binary: true,
        classification: parameter_count(&parameters, "classification", &path)?,
        name: name.to_owned(),
        parameters,
    })
}

/// Gives each input its elements: all from raw contents, or all from their own.
fn attach(
    whole: &Bytes,
    inputs: Vec<Input<'_>>,
    raw: &[&[u8]],
    limits: &Limits,
) -> Result<Vec<Tensor>, Error> {
    if raw.is_empty() {
        let mut bytes_left = limits.decoded_bytes;
        let read = |input: Input<'_>| {
            let Input { name, datatype, shape, contents } = input;
            if contents.is_empty() && !shape.contains(&0) {
                return Err(Error::invalid(format!(
                    "input '{name}' has neither 'contents' nor raw_input_contents, expected one of them"
                )));
            }
            let tensor = contents::read(whole, name, datatype, shape, &contents, bytes_left)?;
            bytes_left = bytes_left.saturating_sub(tensor.data.len());
            Ok(tensor)
        };
        return inputs.into_iter().map(read).collect();
    }
    if let Some(input) = inputs.iter().find(|input| !input.contents.is_empty()) {
        return Err(Error::invalid(format!(
            "input '{}' has 'contents', and the request raw_input_contents, expected one of them",
            input.name
        )));
    }
    if raw.len() != inputs.len() {
        return Err(Error::invalid(format!(
            "raw_input_contents has {} entries for {} inputs, expected one for each",
            raw.len(),
            inputs.len()
        )));
    }
    let pairs = inputs.into_iter().zip(raw);
    pairs
        .map(|(input, raw)| {
            check_span(input.name, input.datatype, &input.shape, limits.decoded_bytes)?;
            Tensor::new(input.name, input.datatype, input.shape, whole.slice_ref(raw))
        })
        .collect()
}

fn within(index: usize, most: usize, what: &str) -> Result<(), Error> {
    if index < most { Ok(()) } else { Err(Error::invalid(format!("request: more than {most} {what}"))) }
}

fn refuse_repeats<'a>(names: impl Iterator<Item = &'a str>, what: &str) -> Result<(), Error> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    match names.array_windows().find(|[first, second]| first == second) {
        None => Ok(()),
        Some([name, _]) => {
            Err(Error::invalid(format!("{what}s: {what} '{}' is given twice in the list", shorten(name))))
        }
    }
}

fn no_shared_memory(what: &str, name: &str) -> Error {
    let message = format!(
        "{what} '{name}': shared_memory_region is not served, use raw_input_contents or contents for inputs, and \
         neither for outputs"
    );
    Error::new(ErrorCode::Unimplemented, message)
}
