//! A request of version 1.
//!
//! Owns how rows become tensors. Nothing is read into a tree: a first look counts, and the second one reads the elements
//! straight into their byte form. Each look goes over the text once, however it nests.

use std::time::Instant;

use crate::error::{Error, ErrorCode};
use crate::http::v2::codec::elements;
use crate::http::v2::codec::fault::{Fault, shorten};
use crate::http::v2::codec::reader::Reader;
use crate::model::tensor::{DataType, Tensor, push_bytes_element};

use super::base64;

/// An input of the model: its name, what its elements are, and how many dimensions it has, which is as deep as data for
/// it may nest.
pub type Takes<'m> = (&'m str, DataType, usize);

/// How a request was written, which is how its answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `instances`: so many rows.
    Rows(usize),
    /// `inputs`: whole tensors.
    Columns,
}

/// A request of version 1.
#[derive(Clone, Debug, PartialEq)]
pub struct RowRequest {
    /// One for each of the model's inputs, in its order.
    pub inputs: Vec<Tensor>,
    /// How it was written.
    pub form: Form,
}

/// Reads a body for a model that takes `inputs`; what is read may decode to `most_bytes`.
///
/// # Errors
/// `InvalidArgument` that names the place; `PayloadTooLarge`; `DeadlineExceeded`.
pub fn read(
    body: &[u8],
    inputs: &[Takes<'_>],
    most_bytes: usize,
    deadline: Instant,
) -> Result<RowRequest, Error> {
    let text = str::from_utf8(body).map_err(|error| {
        Error::invalid(format!("request body: it is not UTF-8 at byte {}", error.valid_up_to()))
    })?;
    let mut reader = Reader::new(text);
    let top = Top::find(&mut reader).map_err(|fault| fault.into_error(&reader.path()))?;
    let mut read = Rows { inputs, bytes_left: most_bytes, deadline };
    let (at, is_rows) = match top {
        Top { instances: Some(at), inputs: None } => (at, true),
        Top { instances: None, inputs: Some(at) } => (at, false),
        Top { instances: Some(_), inputs: Some(_) } => {
            return Err(Error::invalid(
                "request body: it has both 'instances' and 'inputs', expected one of them",
            ));
        }
        Top { instances: None, inputs: None } => {
            return Err(Error::invalid(
                "request body: expected {\"instances\": [row, …]}, or {\"inputs\": …} with whole tensors",
            ));
        }
    };
    let mut reader = reader.rewound(at);
    let made = if is_rows { read.rows(&mut reader) } else { read.columns(&mut reader) };
    made.map_err(|fault| fault.into_error(if is_rows { "instances" } else { "inputs" }))
}

/// Where the data begins.
#[derive(Default)]
struct Top {
    instances: Option<usize>,
    inputs: Option<usize>,
}

impl Top {
    fn find(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let mut top = Self::default();
        reader.object(|reader, key| {
            reader.skip_space();
            let place = match key.as_ref() {
                "instances" => &mut top.instances,
                "inputs" => &mut top.inputs,
                _ => return reader.skip_value(),
            };
            if place.replace(reader.position()).is_some() {
                return Err(reader
                    .refused(reader.position(), format_args!("'{key}' is given twice, the second time")));
            }
            reader.skip_unread()
        })?;
        reader.finish()?;
        Ok(top)
    }
}

struct Rows<'m> {
    inputs: &'m [Takes<'m>],
    bytes_left: usize,
    deadline: Instant,
}

impl Rows<'_> {
    /// A list of rows: values where the model has one input, else objects of its inputs.
    fn rows(&mut self, reader: &mut Reader<'_>) -> Result<RowRequest, Fault> {
        let first = first_of(reader)?;
        let Some(first) = first else {
            return Err(reader.refused(reader.position(), "there are no rows"));
        };
        if is_named(&mut reader.rewound(first), self.inputs)? {
            return self.named_rows(reader);
        }
        let &[input] = self.inputs else {
            return Err(
                reader.refused(first, format_args!("expected a row as an object of {}", self.names()))
            );
        };
        let tensor = self.tensor(reader, input)?;
        let count = tensor.shape.first().copied().unwrap_or(1);
        Ok(RowRequest { inputs: vec![tensor], form: Form::Rows(count) })
    }

    fn named_rows(&mut self, reader: &mut Reader<'_>) -> Result<RowRequest, Fault> {
        let mut columns: Vec<Column> = self.inputs.iter().map(|_| Column::default()).collect();
        let mut count = 0;
        reader.array(|reader, index| {
            count = index + 1;
            self.row(reader, &mut columns, count)
        })?;
        let mut inputs = Vec::with_capacity(columns.len());
        for (column, &(name, datatype, _)) in columns.into_iter().zip(self.inputs) {
            let shape = [count].into_iter().chain(column.shape.unwrap_or_default()).collect();
            inputs.push(Tensor::new(name, datatype, shape, column.data)?);
        }
        Ok(RowRequest { inputs, form: Form::Rows(count) })
    }

    /// Adds a row to the columns, which have `count` rows then.
    fn row(&mut self, reader: &mut Reader<'_>, columns: &mut [Column], count: usize) -> Result<(), Fault> {
        self.in_time()?;
        reader.skip_space();
        let start = reader.position();
        reader.object(|reader, key| {
            let at = self.position(reader, &key)?;
            let (Some(column), Some(&(name, datatype, dimensions))) =
                (columns.get_mut(at), self.inputs.get(at))
            else {
                return Err(Fault::Here(format!("'{}' is no input", shorten(&key))));
            };
            if column.rows == count {
                return Err(
                    reader.refused(reader.position(), format_args!("'{name}' is given twice in a row"))
                );
            }
            let shape = match &column.shape {
                Some(shape) => shape.clone(),
                None => shape_of(reader, name, dimensions)?,
            };
            let data = self.data(reader, name, datatype, &shape)?;
            column.data.extend_from_slice(&data);
            column.shape = Some(shape);
            column.rows = count;
            Ok(())
        })?;
        match columns.iter().zip(self.inputs).find(|(column, _)| column.rows != count) {
            Some((_, (name, ..))) => Err(reader.refused(start, format_args!("a row lacks '{name}'"))),
            None => Ok(()),
        }
    }

    /// Whole tensors: one where the model has one input, else an object of its inputs.
    fn columns(&mut self, reader: &mut Reader<'_>) -> Result<RowRequest, Fault> {
        if !is_named(&mut reader.clone(), self.inputs)? {
            let &[input] = self.inputs else {
                return Err(reader.expected(&format!("an object of {}", self.names())));
            };
            let tensor = self.tensor(reader, input)?;
            return Ok(RowRequest { inputs: vec![tensor], form: Form::Columns });
        }
        let mut tensors: Vec<Option<Tensor>> = self.inputs.iter().map(|_| None).collect();
        reader.object(|reader, key| {
            let at = self.position(reader, &key)?;
            let (Some(slot), Some(&input)) = (tensors.get_mut(at), self.inputs.get(at)) else {
                return Err(Fault::Here(format!("'{}' is no input", shorten(&key))));
            };
            if slot.is_some() {
                return Err(reader.refused(reader.position(), format_args!("'{}' is given twice", input.0)));
            }
            *slot = Some(self.tensor(reader, input)?);
            Ok(())
        })?;
        let mut inputs = Vec::with_capacity(tensors.len());
        for (tensor, (name, ..)) in tensors.into_iter().zip(self.inputs) {
            inputs.push(tensor.ok_or_else(|| Fault::Here(format!("'{name}' is missing")))?);
        }
        Ok(RowRequest { inputs, form: Form::Columns })
    }

    fn position(&self, reader: &Reader<'_>, key: &str) -> Result<usize, Fault> {
        self.inputs.iter().position(|(name, ..)| *name == key).ok_or_else(|| {
            let key = shorten(key);
            reader.refused(
                reader.position(),
                format_args!("'{key}' is no input of the model, it takes {};", self.names()),
            )
        })
    }

    fn in_time(&self) -> Result<(), Fault> {
        if Instant::now() < self.deadline {
            return Ok(());
        }
        let message = "the request's time ran out while its body was read";
        Err(Error::new(ErrorCode::DeadlineExceeded, message).into())
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.inputs.iter().map(|(name, ..)| format!("'{name}'")).collect();
        names.join(", ")
    }

    fn tensor(
        &mut self,
        reader: &mut Reader<'_>,
        (name, datatype, dimensions): Takes<'_>,
    ) -> Result<Tensor, Fault> {
        self.in_time()?;
        let shape = shape_of(reader, name, dimensions)?;
        self.in_time()?;
        let data = self.data(reader, name, datatype, &shape)?;
        Ok(Tensor::new(name, datatype, shape, data)?)
    }

    fn data(
        &mut self,
        reader: &mut Reader<'_>,
        name: &str,
        datatype: DataType,
        shape: &[usize],
    ) -> Result<bytes::Bytes, Fault> {
        let data = if datatype == DataType::Bytes {
            let mut data = Vec::new();
            texts(reader, shape, &mut data)?;
            data.into()
        } else if shape.is_empty() {
            // The reader of elements knows arrays only, and a row of numbers may be a number.
            scalar(reader, name, datatype, self.bytes_left)?
        } else {
            elements::read(reader, name, datatype, shape, self.bytes_left)?.data
        };
        self.bytes_left = self.bytes_left.checked_sub(data.len()).ok_or_else(|| too_large(name))?;
        Ok(data)
    }
}

/// An input of rows that are objects, so far.
#[derive(Default)]
struct Column {
    /// Of each row, as the first one has it.
    shape: Option<Vec<usize>>,
    data: Vec<u8>,
    rows: usize,
}

fn too_large(name: &str) -> Error {
    let message = format!("tensor '{name}': the data of all inputs takes more than server.max_body bytes");
    Error::new(ErrorCode::PayloadTooLarge, message)
}

/// Where the first item of an array begins; `None` for an empty one. Leaves the cursor where it is.
fn first_of(reader: &Reader<'_>) -> Result<Option<usize>, Fault> {
    let mut ahead = reader.clone();
    ahead.take(b'[', "an array")?;
    ahead.skip_space();
    Ok(Some(ahead.position()).filter(|_| ahead.peek() != Some(b']')))
}

/// Whether the cursor stands before an object of inputs, and not before the bytes of one.
fn is_named(reader: &mut Reader<'_>, inputs: &[Takes<'_>]) -> Result<bool, Fault> {
    reader.skip_space();
    if reader.peek() != Some(b'{') {
        return Ok(false);
    }
    let mut is_bytes = false;
    reader.object(|reader, key| {
        is_bytes = key == "b64" && !inputs.iter().any(|(name, ..)| *name == key);
        reader.skip_unread()
    })?;
    Ok(!is_bytes)
}

/// How deep the value at the cursor nests, and how many items the first array of each level has. Leaves the cursor where
/// it is.
fn shape_of(reader: &Reader<'_>, name: &str, most: usize) -> Result<Vec<usize>, Fault> {
    let mut shape = Vec::new();
    measure(&mut reader.clone(), name, most, &mut shape)?;
    Ok(shape)
}

/// Goes over a value once: into the first item of each array, and past the others. What it goes past is read later, and
/// checked then.
fn measure(reader: &mut Reader<'_>, name: &str, most: usize, shape: &mut Vec<usize>) -> Result<(), Fault> {
    reader.skip_space();
    if reader.peek() != Some(b'[') {
        return reader.skip_value();
    }
    let level = shape.len();
    if level == most {
        let message = format!("nested deeper than the {most} dimensions of '{name}'");
        return Err(reader.refused(reader.position(), message));
    }
    shape.push(0);
    let mut count = 0;
    reader.array(|reader, index| {
        count = index + 1;
        if index == 0 { measure(reader, name, most, shape) } else { reader.skip_unread() }
    })?;
    if let Some(size) = shape.get_mut(level) {
        *size = count;
    }
    Ok(())
}

fn scalar(
    reader: &mut Reader<'_>,
    name: &str,
    datatype: DataType,
    most_bytes: usize,
) -> Result<bytes::Bytes, Fault> {
    reader.skip_space();
    let start = reader.position();
    reader.skip_value()?;
    let text = format!("[{}]", reader.text().get(start..reader.position()).unwrap_or_default());
    let mut one = Reader::new(&text);
    let read = elements::read(&mut one, name, datatype, &[1], most_bytes);
    read.map(|tensor| tensor.data).map_err(|fault| match fault {
        // It is about the element alone, and would name a place in it.
        Fault::Complete(error) if error.code != ErrorCode::InvalidArgument || is_half(datatype) => {
            error.into()
        }
        _ => reader.refused(start, format_args!("expected an element of {datatype} for '{name}'")),
    })
}

/// The two that JSON has no form for, which says it better.
const fn is_half(datatype: DataType) -> bool {
    matches!(datatype, DataType::Fp16 | DataType::Bf16)
}

/// BYTES: texts, or `{"b64": "…"}`.
fn texts(reader: &mut Reader<'_>, shape: &[usize], data: &mut Vec<u8>) -> Result<(), Fault> {
    reader.skip_space();
    let start = reader.position();
    let Some((&expected, inner)) = shape.split_first() else {
        return text(reader, data);
    };
    let mut count = 0;
    reader.array(|reader, index| {
        count = index + 1;
        texts(reader, inner, data)
    })?;
    if count == expected {
        return Ok(());
    }
    Err(reader.refused(start, format_args!("an array has {count} items where others have {expected},")))
}

fn text(reader: &mut Reader<'_>, data: &mut Vec<u8>) -> Result<(), Fault> {
    if reader.peek() != Some(b'{') {
        let text = reader.string()?;
        return Ok(push_bytes_element(data, text.as_bytes())?);
    }
    let start = reader.position();
    let mut bytes = None;
    reader.object(|reader, key| {
        if key != "b64" || bytes.is_some() {
            return Err(reader.refused(reader.position(), "expected {\"b64\": \"…\"} and nothing else,"));
        }
        let text = reader.string()?;
        bytes = Some(base64::decode(&text).ok_or_else(|| reader.refused(start, "'b64' is no base64"))?);
        Ok(())
    })?;
    let bytes = bytes.ok_or_else(|| reader.refused(start, "expected {\"b64\": \"…\"}"))?;
    Ok(push_bytes_element(data, &bytes)?)
}
