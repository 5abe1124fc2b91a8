//! The JSON part of an inference request, field by field.
//!
//! Owns which keys there are, what each may hold, and the path of the field that a failure names.
//! Keys that the protocol does not know are stepped over; an optional key that is `null` counts as
//! absent. Binary tensors are only announced here, `parse` cuts them from the body.

use std::borrow::Cow;

use super::elements;
use super::fault::{Fault, shorten};
use super::reader::{Reader, Step};
use super::request::{
    Limits, ParameterValue, Parameters, RequestedOutput, parameter, parameter_count, parameter_flag,
};
use crate::error::{Error, ErrorCode};
use crate::model::tensor::{DataType, Tensor};

/// Dimensions of a shape, at most; also bounds how deep nested data is followed.
const MAX_DIMENSIONS: usize = 64;

/// The JSON part.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    pub(super) id: Option<String>,
    pub(super) parameters: Parameters,
    pub(super) inputs: Vec<Input>,
    pub(super) outputs: Vec<RequestedOutput>,
    pub(super) default_binary: bool,
}

/// One input, whose elements were in the JSON or are yet to come.
#[derive(Debug)]
pub(super) enum Input {
    Json(Tensor),
    Binary { name: String, datatype: DataType, shape: Vec<usize>, size: u64 },
}

impl Input {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Json(tensor) => &tensor.name,
            Self::Binary { name, .. } => name,
        }
    }
}

/// Reads the whole text.
pub(super) fn read(text: &str, limits: &Limits) -> Result<Envelope, Error> {
    let mut reader = Reader::new(text);
    let mut parse = Parse { limits, bytes_left: limits.decoded_bytes, parameters_left: limits.parameters };
    parse.envelope(&mut reader).map_err(|fault| fault.into_error(&reader.path()))
}

struct Parse<'a> {
    limits: &'a Limits,
    /// How much JSON data may yet decode to.
    bytes_left: usize,
    /// How many parameters there may yet be.
    parameters_left: usize,
}

impl Parse<'_> {
    fn envelope(&mut self, reader: &mut Reader<'_>) -> Result<Envelope, Fault> {
        let mut envelope = Envelope::default();
        let mut inputs = None;
        let mut seen = Seen::default();
        reader.object(|reader, key| {
            seen.field(reader, &key, &["id", "parameters", "inputs", "outputs"], |reader, field| {
                match field {
                    "id" => envelope.id = Some(reader.string()?.into_owned()),
                    "parameters" => envelope.parameters = self.parameters(reader)?,
                    "inputs" => inputs = Some(self.inputs(reader)?),
                    _ => envelope.outputs = self.outputs(reader)?,
                }
                Ok(())
            })
        })?;
        reader.finish()?;
        envelope.inputs = inputs.ok_or_else(|| Fault::Here("'inputs' is missing".to_owned()))?;
        envelope.default_binary = parameter_flag(&envelope.parameters, "binary_data_output", "parameters")?;
        Ok(envelope)
    }

    fn inputs(&mut self, reader: &mut Reader<'_>) -> Result<Vec<Input>, Fault> {
        let mut inputs = Vec::new();
        let start = reader.position();
        let most = self.limits.inputs;
        reader.array(|reader, index| {
            within(reader, index, most, "inputs")?;
            inputs.push(self.input(reader)?);
            Ok(())
        })?;
        refuse_repeats(reader, start, inputs.iter().map(Input::name), "input")?;
        Ok(inputs)
    }

    fn input(&mut self, reader: &mut Reader<'_>) -> Result<Input, Fault> {
        let mut fields = InputFields::default();
        let mut seen = Seen::default();
        reader.object(|reader, key| {
            seen.field(reader, &key, &["name", "datatype", "shape", "parameters", "data"], |reader, field| {
                match field {
                    "name" => fields.name = Some(name(reader)?),
                    "datatype" => fields.datatype = Some(datatype(reader)?),
                    "shape" => fields.shape = Some(shape(reader)?),
                    "parameters" => fields.parameters = self.parameters(reader)?,
                    _ => return self.data(reader, &mut fields),
                }
                Ok(())
            })
        })?;
        self.complete(reader, fields)
    }

    /// Decodes the data at once if the fields that say how came before it, and steps over it if not.
    fn data(&mut self, reader: &mut Reader<'_>, fields: &mut InputFields) -> Result<(), Fault> {
        if let (Some(name), Some(datatype), Some(shape)) = (&fields.name, fields.datatype, &fields.shape) {
            fields.tensor = Some(self.tensor(reader, name, datatype, shape)?);
            return Ok(());
        }
        fields.data_at = Some(reader.position());
        reader.skip_unread()
    }

    fn tensor(
        &mut self,
        reader: &mut Reader<'_>,
        name: &str,
        datatype: DataType,
        shape: &[usize],
    ) -> Result<Tensor, Fault> {
        let tensor = elements::read(reader, name, datatype, shape, self.bytes_left)?;
        self.bytes_left = self.bytes_left.saturating_sub(tensor.data.len());
        Ok(tensor)
    }

    fn complete(&mut self, reader: &Reader<'_>, fields: InputFields) -> Result<Input, Fault> {
        let missing = |key: &str| Fault::Here(format!("'{key}' is missing"));
        let name = fields.name.ok_or_else(|| missing("name"))?;
        let datatype = fields.datatype.ok_or_else(|| missing("datatype"))?;
        let shape = fields.shape.ok_or_else(|| missing("shape"))?;
        refuse_shared_memory(&fields.parameters, "input", &name)?;
        let tensor = match (fields.tensor, fields.data_at) {
            (None, Some(at)) => Some(self.tensor(&mut reader.rewound(at), &name, datatype, &shape)?),
            (tensor, _) => tensor,
        };
        let path = reader.shown_path();
        let size =
            parameter_count(&fields.parameters, "binary_data_size", format_args!("{path}.parameters"))?;
        match (tensor, size) {
            (Some(tensor), None) => Ok(Input::Json(tensor)),
            (None, Some(size)) => Ok(Input::Binary { name, datatype, shape, size }),
            (Some(_), Some(size)) => Err(Error::invalid(format!(
                "input '{name}' has both 'data' and binary_data_size {size}, expected one of them"
            ))
            .into()),
            (None, None) => Err(Error::invalid(format!(
                "input '{name}' has neither 'data' nor the parameter 'binary_data_size', expected one of them"
            ))
            .into()),
        }
    }

    fn outputs(&mut self, reader: &mut Reader<'_>) -> Result<Vec<RequestedOutput>, Fault> {
        let mut outputs: Vec<RequestedOutput> = Vec::new();
        let start = reader.position();
        let most = self.limits.outputs;
        reader.array(|reader, index| {
            within(reader, index, most, "outputs")?;
            outputs.push(self.output(reader)?);
            Ok(())
        })?;
        refuse_repeats(reader, start, outputs.iter().map(|output| output.name.as_str()), "output")?;
        Ok(outputs)
    }

    fn output(&mut self, reader: &mut Reader<'_>) -> Result<RequestedOutput, Fault> {
        let mut found_name = None;
        let mut found = Parameters::new();
        let mut seen = Seen::default();
        reader.object(|reader, key| {
            seen.field(reader, &key, &["name", "parameters"], |reader, field| {
                match field {
                    "name" => found_name = Some(name(reader)?),
                    _ => found = self.parameters(reader)?,
                }
                Ok(())
            })
        })?;
        let name = found_name.ok_or_else(|| Fault::Here("'name' is missing".to_owned()))?;
        refuse_shared_memory(&found, "output", &name)?;
        let path = reader.shown_path();
        Ok(RequestedOutput {
            binary: parameter_flag(&found, "binary_data", format_args!("{path}.parameters"))?,
            classification: parameter_count(&found, "classification", format_args!("{path}.parameters"))?,
            name,
            parameters: found,
        })
    }

    fn parameters(&mut self, reader: &mut Reader<'_>) -> Result<Parameters, Fault> {
        let mut parameters = Parameters::new();
        let start = reader.position();
        reader.object(|reader, key| {
            let most = self.limits.parameters;
            self.parameters_left = self.parameters_left.checked_sub(1).ok_or_else(|| {
                reader.refused(reader.position(), format_args!("more than {most} parameters in the request"))
            })?;
            reader.enter(Step::Key(Cow::Owned(shorten(&key))));
            if key.starts_with("triton_") {
                return Err(reader
                    .refused(reader.position(), "parameter names that start with triton_ are reserved,"));
            }
            parameters.push((key.into_owned(), parameter_value(reader)?));
            reader.leave();
            Ok(())
        })?;
        refuse_repeats(reader, start, parameters.iter().map(|(name, _)| name.as_str()), "parameter")?;
        Ok(parameters)
    }
}

/// What is known of an input so far.
#[derive(Default)]
struct InputFields {
    name: Option<String>,
    datatype: Option<DataType>,
    shape: Option<Vec<usize>>,
    parameters: Parameters,
    tensor: Option<Tensor>,
    /// Where data begins that came too early to be decoded.
    data_at: Option<usize>,
}

/// Which known keys an object has had, one bit each.
#[derive(Default)]
struct Seen(u8);

impl Seen {
    /// Runs `read` if `key` is among `known` and not `null`; refuses it the second time, steps over
    /// the value if it is not known.
    fn field<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        key: &str,
        known: &[&'static str],
        read: impl FnOnce(&mut Reader<'a>, &'static str) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let Some((index, &field)) = known.iter().enumerate().find(|&(_, &candidate)| candidate == key) else {
            reader.enter(Step::Key(Cow::Owned(shorten(key))));
            reader.skip_value()?;
            reader.leave();
            return Ok(());
        };
        reader.enter(Step::Key(Cow::Borrowed(field)));
        if self.0 & (1 << index) != 0 {
            return Err(reader.refused(reader.position(), "the key is given twice, the second time"));
        }
        self.0 |= 1 << index;
        if !reader.eat_null() {
            read(reader, field)?;
        }
        reader.leave();
        Ok(())
    }
}

fn name(reader: &mut Reader<'_>) -> Result<String, Fault> {
    reader.skip_space();
    let start = reader.position();
    let name = reader.string()?;
    if name.is_empty() { Err(reader.refused(start, "a name is empty")) } else { Ok(name.into_owned()) }
}

fn datatype(reader: &mut Reader<'_>) -> Result<DataType, Fault> {
    reader.skip_space();
    let start = reader.position();
    let text = reader.string()?;
    text.parse().map_err(|error| reader.refused(start, error))
}

fn shape(reader: &mut Reader<'_>) -> Result<Vec<usize>, Fault> {
    let mut shape = Vec::new();
    reader.array(|reader, index| {
        within(reader, index, MAX_DIMENSIONS, "dimensions")?;
        reader.skip_space();
        let start = reader.position();
        let number = reader.number()?;
        let size = number.integer().and_then(|size| usize::try_from(size).ok()).ok_or_else(|| {
            reader.refused(
                start,
                format_args!("{} is no size of a dimension, an integer of 0 or more", reader.excerpt(start)),
            )
        })?;
        shape.push(size);
        Ok(())
    })?;
    Ok(shape)
}

fn parameter_value(reader: &mut Reader<'_>) -> Result<ParameterValue, Fault> {
    reader.skip_space();
    let start = reader.position();
    match reader.peek() {
        Some(b'"') => Ok(ParameterValue::String(reader.string()?.into_owned())),
        Some(b't' | b'f') => Ok(ParameterValue::Bool(reader.boolean()?)),
        Some(b'-' | b'0'..=b'9') => {
            let number = reader.number()?;
            let value = if number.is_integral() {
                let value = number.integer();
                let small = value.and_then(|value| i64::try_from(value).ok()).map(ParameterValue::Int);
                small.or_else(|| value.and_then(|value| u64::try_from(value).ok()).map(ParameterValue::Uint))
            } else {
                number.as_f64().map(ParameterValue::Double)
            };
            value.ok_or_else(|| {
                reader.refused(start, format_args!("{} is out of range", reader.excerpt(start)))
            })
        }
        _ => Err(reader.expected("a string, a number, true or false")),
    }
}

/// Refuses item `index` if it is one too many.
fn within(reader: &Reader<'_>, index: usize, most: usize, what: &str) -> Result<(), Fault> {
    if index < most {
        return Ok(());
    }
    Err(reader.refused(reader.position(), format_args!("more than {most} {what}")))
}

fn refuse_repeats<'a>(
    reader: &Reader<'_>,
    start: usize,
    names: impl Iterator<Item = &'a str>,
    what: &str,
) -> Result<(), Fault> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    match names.array_windows().find(|[first, second]| first == second) {
        None => Ok(()),
        Some([name, _]) => {
            Err(reader.refused(start, format_args!("{what} '{}' is given twice in the list", shorten(name))))
        }
    }
}

fn refuse_shared_memory(parameters: &Parameters, what: &str, name: &str) -> Result<(), Error> {
    if parameter(parameters, "shared_memory_region").is_none() {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::Unimplemented,
        format!(
            "{what} '{name}': shared_memory_region is not served, use JSON data or the binary form \
             (binary_data_size, binary_data)"
        ),
    ))
}
