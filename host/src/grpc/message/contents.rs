//! Typed contents to a tensor's bytes.
//!
//! Owns which list of `InferTensorContents` goes with which datatype, and the ranges of the narrow ones. It never
//! keeps more bytes than the shape asks for.

use bytes::Bytes;
use prost::encoding::decode_varint;

use super::wire::{self, Fields, Value};
use crate::error::Error;
use crate::http::v2::codec::too_large;
use crate::model::tensor::{DataType, Tensor, check_span, element_count, push_bytes_element};

/// The lists, by the number of their field.
const LISTS: [(u32, &str); 8] = [
    (1, "bool_contents"),
    (2, "int_contents"),
    (3, "int64_contents"),
    (4, "uint_contents"),
    (5, "uint64_contents"),
    (6, "fp32_contents"),
    (7, "fp64_contents"),
    (8, "bytes_contents"),
];

/// The number of the list that goes with a datatype; FP16 and BF16 have none.
const fn list_of(datatype: DataType) -> Option<u32> {
    match datatype {
        DataType::Bool => Some(1),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => Some(2),
        DataType::Int64 => Some(3),
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 => Some(4),
        DataType::Uint64 => Some(5),
        DataType::Fp32 => Some(6),
        DataType::Fp64 => Some(7),
        DataType::Bytes => Some(8),
        DataType::Fp16 | DataType::Bf16 => None,
    }
}

fn list_name(number: u32) -> &'static str {
    LISTS.iter().find(|(list, _)| *list == number).map_or("?", |(_, name)| name)
}

/// Makes the tensor whose elements are in `contents`, all of them parts of one `InferTensorContents` in `whole`.
///
/// # Errors
/// `InvalidArgument` that names the tensor and the element; `PayloadTooLarge` if the elements take more than
/// `most_bytes`.
pub(super) fn read(
    whole: &Bytes,
    name: &str,
    datatype: DataType,
    shape: Vec<usize>,
    contents: &[&[u8]],
    most_bytes: usize,
) -> Result<Tensor, Error> {
    let Some(list) = list_of(datatype) else {
        return Err(Error::invalid(format!(
            "tensor '{name}': {datatype} has no typed form, send it in raw_input_contents"
        )));
    };
    let elements = element_count(name, &shape)?;
    check_span(name, datatype, &shape, most_bytes)?;
    let width = datatype.width().unwrap_or(4);
    let bytes = elements.saturating_mul(width);
    if bytes > most_bytes {
        return Err(too_large(name, bytes, most_bytes));
    }
    let only = only_part(name, datatype, list, contents)?;
    // A packed list of floats is what a tensor is.
    if let Some(part) = only
        && matches!(datatype, DataType::Fp32 | DataType::Fp64)
        && part.len() == bytes
    {
        return Ok(Tensor { name: name.to_owned(), datatype, shape, data: whole.slice_ref(part) });
    }
    let mut filling = Filling { name, datatype, elements, most_bytes, count: 0, data: Vec::new() };
    let promised: usize = contents.iter().map(|part| part.len()).sum();
    filling.data.reserve_exact(elements.min(promised).saturating_mul(width));
    for part in contents {
        let mut fields = Fields::new(part, name);
        while let Some((number, value)) = fields.next()? {
            if number == list {
                filling.add(value)?;
            }
        }
    }
    if filling.count != elements {
        return Err(Error::invalid(format!(
            "tensor '{name}': shape {shape:?} takes {elements} elements, data has {}",
            filling.count
        )));
    }
    Ok(Tensor { name: name.to_owned(), datatype, shape, data: filling.data.into() })
}

/// The bytes of the list if it came in one piece. Refuses elements in other lists.
fn only_part<'a>(
    name: &str,
    datatype: DataType,
    list: u32,
    contents: &[&'a [u8]],
) -> Result<Option<&'a [u8]>, Error> {
    let (mut only, mut pieces) = (None, 0_usize);
    for part in contents {
        let mut fields = Fields::new(part, "contents");
        while let Some((number, value)) = fields.next()? {
            if number == list {
                pieces += 1;
                only = if let Value::Bytes(bytes) = value { Some(bytes) } else { None };
            } else if (1..=8).contains(&number) && value != Value::Bytes(&[]) {
                return Err(Error::invalid(format!(
                    "tensor '{name}': {datatype} goes into {}, got {}",
                    list_name(list),
                    list_name(number)
                )));
            }
        }
    }
    Ok(only.filter(|_| pieces == 1))
}

/// A tensor's bytes on their way.
struct Filling<'a> {
    name: &'a str,
    datatype: DataType,
    /// As many as the shape takes.
    elements: usize,
    most_bytes: usize,
    /// As many as came.
    count: usize,
    data: Vec<u8>,
}

impl Filling<'_> {
    /// Adds a piece of the list: one element, or a packed list.
    fn add(&mut self, value: Value<'_>) -> Result<(), Error> {
        match (self.datatype, value) {
            (DataType::Bytes, Value::Bytes(element)) => self.add_bytes(element),
            (DataType::Fp32, Value::Fixed32(element)) => self.put(&element),
            (DataType::Fp64, Value::Fixed64(element)) => self.put(&element),
            (DataType::Fp32 | DataType::Fp64, Value::Bytes(packed)) => self.add_floats(packed),
            (DataType::Bytes | DataType::Fp32 | DataType::Fp64, _)
            | (_, Value::Fixed32(_) | Value::Fixed64(_)) => {
                Err(wire::mistyped(&format_args!("tensor '{}'", self.name)))
            }
            (_, Value::Varint(element)) => self.add_integer(element),
            (_, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    let element = decode_varint(&mut packed).map_err(|error| {
                        Error::invalid(format!("tensor '{}' element {}: {error}", self.name, self.count))
                    })?;
                    self.add_integer(element)?;
                }
                Ok(())
            }
        }
    }

    fn add_floats(&mut self, packed: &[u8]) -> Result<(), Error> {
        let width = self.datatype.width().unwrap_or(4);
        if !packed.len().is_multiple_of(width) {
            return Err(Error::invalid(format!(
                "tensor '{}': {} bytes are no list of {}",
                self.name,
                packed.len(),
                self.datatype
            )));
        }
        packed.chunks_exact(width).try_for_each(|element| self.put(element))
    }

    fn add_integer(&mut self, element: u64) -> Result<(), Error> {
        // The protocol's int32 and uint32 are the lower half of what comes.
        let (signed, unsigned) = (element as i32, element as u32);
        match self.datatype {
            DataType::Bool => self.put(&[u8::from(element != 0)]),
            DataType::Int8 => self.put_narrow(i8::try_from(signed).map(i8::to_le_bytes), signed),
            DataType::Int16 => self.put_narrow(i16::try_from(signed).map(i16::to_le_bytes), signed),
            DataType::Int32 => self.put(&signed.to_le_bytes()),
            DataType::Uint8 => self.put_narrow(u8::try_from(unsigned).map(u8::to_le_bytes), unsigned),
            DataType::Uint16 => self.put_narrow(u16::try_from(unsigned).map(u16::to_le_bytes), unsigned),
            DataType::Uint32 => self.put(&unsigned.to_le_bytes()),
            _ => self.put(&element.to_le_bytes()),
        }
    }

    fn put_narrow<const W: usize, E>(
        &mut self,
        element: Result<[u8; W], E>,
        shown: impl std::fmt::Display,
    ) -> Result<(), Error> {
        let Ok(element) = element else {
            return Err(Error::invalid(format!(
                "tensor '{}' element {}: {shown} is out of range for {}",
                self.name, self.count, self.datatype
            )));
        };
        self.put(&element)
    }

    fn add_bytes(&mut self, element: &[u8]) -> Result<(), Error> {
        if self.count < self.elements {
            push_bytes_element(&mut self.data, element)?;
            if self.data.len() > self.most_bytes {
                return Err(too_large(self.name, self.data.len(), self.most_bytes));
            }
        }
        self.count += 1;
        Ok(())
    }

    /// Elements that are too many are counted, and not kept.
    fn put(&mut self, element: &[u8]) -> Result<(), Error> {
        if self.count < self.elements {
            self.data.extend_from_slice(element);
        }
        self.count += 1;
        Ok(())
    }
}
