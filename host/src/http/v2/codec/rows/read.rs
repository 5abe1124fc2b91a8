//! A request of version 1.
//!
//! Owns how rows become tensors. Nothing is read into a tree: a first look counts, and the second one reads the elements
//! straight into their byte form.

use crate::error::{Error, ErrorCode};
use crate::http::v2::codec::elements;
use crate::http::v2::codec::fault::{Fault, shorten};
use crate::http::v2::codec::reader::Reader;
use crate::model::tensor::{DataType, Tensor, push_bytes_element};

use super::base64;

/// Dimensions that data may nest to.
const MOST_DIMENSIONS: usize = 32;

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
/// `InvalidArgument` that names the place; `PayloadTooLarge`.
pub fn read(body: &[u8], inputs: &[(&str, DataType)], most_bytes: usize) -> Result<RowRequest, Error> {
    let text = str::from_utf8(body).map_err(|error| {
        Error::invalid(format!("request body: it is not UTF-8 at byte {}", error.valid_up_to()))
    })?;
    let mut reader = Reader::new(text);
    let top = Top::find(&mut reader).map_err(|fault| fault.into_error(&reader.path()))?;
    let mut read = Rows { inputs, bytes_left: most_bytes };
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
            reader.skip_value()
        })?;
        reader.finish()?;
        Ok(top)
    }
}

struct Rows<'m> {
    inputs: &'m [(&'m str, DataType)],
    bytes_left: usize,
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
        let &[(name, datatype)] = self.inputs else {
            return Err(
                reader.refused(first, format_args!("expected a row as an object of {}", self.names()))
            );
        };
        let tensor = self.tensor(reader, name, datatype)?;
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
        for (column, &(name, datatype)) in columns.into_iter().zip(self.inputs) {
            let shape = [count].into_iter().chain(column.shape.unwrap_or_default()).collect();
            inputs.push(Tensor::new(name, datatype, shape, column.data)?);
        }
        Ok(RowRequest { inputs, form: Form::Rows(count) })
    }

    /// Adds a row to the columns, which have `count` rows then.
    fn row(&mut self, reader: &mut Reader<'_>, columns: &mut [Column], count: usize) -> Result<(), Fault> {
        reader.skip_space();
        let start = reader.position();
        reader.object(|reader, key| {
            let at = self.position(reader, &key)?;
            let (Some(column), Some(&(name, datatype))) = (columns.get_mut(at), self.inputs.get(at)) else {
                return Err(Fault::Here(format!("'{}' is no input", shorten(&key))));
            };
            if column.rows == count {
                return Err(
                    reader.refused(reader.position(), format_args!("'{name}' is given twice in a row"))
                );
            }
            let shape = match &column.shape {
                Some(shape) => shape.clone(),
                None => shape_of(&mut reader.clone())?,
            };
            let data = self.data(reader, name, datatype, &shape)?;
            column.data.extend_from_slice(&data);
            column.shape = Some(shape);
            column.rows = count;
            Ok(())
        })?;
        match columns.iter().zip(self.inputs).find(|(column, _)| column.rows != count) {
            Some((_, (name, _))) => Err(reader.refused(start, format_args!("a row lacks '{name}'"))),
            None => Ok(()),
        }
    }

    /// Whole tensors: one where the model has one input, else an object of its inputs.
    fn columns(&mut self, reader: &mut Reader<'_>) -> Result<RowRequest, Fault> {
        if !is_named(&mut reader.clone(), self.inputs)? {
            let &[(name, datatype)] = self.inputs else {
                return Err(reader.expected(&format!("an object of {}", self.names())));
            };
            let tensor = self.tensor(reader, name, datatype)?;
            return Ok(RowRequest { inputs: vec![tensor], form: Form::Columns });
        }
        let mut tensors: Vec<Option<Tensor>> = self.inputs.iter().map(|_| None).collect();
        reader.object(|reader, key| {
            let at = self.position(reader, &key)?;
            let (Some(slot), Some(&(name, datatype))) = (tensors.get_mut(at), self.inputs.get(at)) else {
                return Err(Fault::Here(format!("'{}' is no input", shorten(&key))));
            };
            if slot.is_some() {
                return Err(reader.refused(reader.position(), format_args!("'{name}' is given twice")));
            }
            *slot = Some(self.tensor(reader, name, datatype)?);
            Ok(())
        })?;
        let mut inputs = Vec::with_capacity(tensors.len());
        for (tensor, (name, _)) in tensors.into_iter().zip(self.inputs) {
            inputs.push(tensor.ok_or_else(|| Fault::Here(format!("'{name}' is missing")))?);
        }
        Ok(RowRequest { inputs, form: Form::Columns })
    }

    fn position(&self, reader: &Reader<'_>, key: &str) -> Result<usize, Fault> {
        self.inputs.iter().position(|(name, _)| *name == key).ok_or_else(|| {
            let key = shorten(key);
            reader.refused(
                reader.position(),
                format_args!("'{key}' is no input of the model, it takes {};", self.names()),
            )
        })
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.inputs.iter().map(|(name, _)| format!("'{name}'")).collect();
        names.join(", ")
    }

    fn tensor(&mut self, reader: &mut Reader<'_>, name: &str, datatype: DataType) -> Result<Tensor, Fault> {
        let shape = shape_of(&mut reader.clone())?;
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
    let mut first = None;
    reader.clone().array(|reader, index| {
        if index == 0 {
            reader.skip_space();
            first = Some(reader.position());
        }
        reader.skip_value()
    })?;
    Ok(first)
}

/// Whether the cursor stands before an object of inputs, and not before the bytes of one.
fn is_named(reader: &mut Reader<'_>, inputs: &[(&str, DataType)]) -> Result<bool, Fault> {
    reader.skip_space();
    if reader.peek() != Some(b'{') {
        return Ok(false);
    }
    let mut is_bytes = false;
    reader.object(|reader, key| {
        is_bytes = key == "b64" && !inputs.iter().any(|(name, _)| *name == key);
        reader.skip_value()
    })?;
    Ok(!is_bytes)
}

/// How deep the value at the cursor nests, and how many items the first array of each level has.
fn shape_of(reader: &mut Reader<'_>) -> Result<Vec<usize>, Fault> {
    let mut shape = Vec::new();
    reader.skip_space();
    while reader.peek() == Some(b'[') {
        if shape.len() == MOST_DIMENSIONS {
            return Err(reader
                .refused(reader.position(), format_args!("nested deeper than {MOST_DIMENSIONS} levels")));
        }
        let (mut count, mut first) = (0, None);
        reader.clone().array(|reader, index| {
            if index == 0 {
                reader.skip_space();
                first = Some(reader.position());
            }
            count = index + 1;
            reader.skip_value()
        })?;
        shape.push(count);
        match first {
            Some(at) => *reader = reader.rewound(at),
            None => break,
        }
    }
    Ok(shape)
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
