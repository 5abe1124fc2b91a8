//! Tensors' elements as JSON text.
//!
//! Owns the spelling of every datatype. It writes into the caller's buffer and allocates nothing.

use bytes::Bytes;

use super::elements::no_json_form;
use crate::error::Error;
use crate::model::tensor::{BytesElements, DataType, Tensor};

/// How much text the tensor's elements take, at most for numbers and about for BYTES.
pub(super) fn space(tensor: &Tensor) -> usize {
    let (width, text) = match tensor.datatype {
        DataType::Bool => (1, 6),
        DataType::Uint8 | DataType::Int8 => (1, 5),
        DataType::Uint16 | DataType::Int16 => (2, 7),
        DataType::Uint32 | DataType::Int32 => (4, 12),
        DataType::Uint64 | DataType::Int64 => (8, 21),
        DataType::Fp32 => (4, 17),
        DataType::Fp64 => (8, 26),
        DataType::Fp16 | DataType::Bf16 => (1, 0),
        DataType::Bytes => (1, 1),
    };
    (tensor.data.len() / width).saturating_mul(text)
}

/// A key of an object and its colon.
pub(super) fn key(head: &mut Vec<u8>, name: &str) {
    string(head, name);
    head.push(b':');
}

/// A JSON string.
pub(super) fn string(head: &mut Vec<u8>, text: &str) {
    // A string into a vector cannot fail.
    drop(serde_json::to_writer(head, text));
}

/// A finite number.
pub(super) fn double(head: &mut Vec<u8>, value: f64) {
    head.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
}

/// An array of integers.
pub(super) fn integers(head: &mut Vec<u8>, values: impl Iterator<Item = impl itoa::Integer>) {
    let mut buffer = itoa::Buffer::new();
    list(head, values, |head, value| head.extend_from_slice(buffer.format(value).as_bytes()));
}

/// An array of finite numbers.
fn floats(head: &mut Vec<u8>, values: impl Iterator<Item = impl zmij::Float>) {
    let mut buffer = zmij::Buffer::new();
    list(head, values, |head, value| head.extend_from_slice(buffer.format_finite(value).as_bytes()));
}

fn list<T>(head: &mut Vec<u8>, values: impl Iterator<Item = T>, mut append: impl FnMut(&mut Vec<u8>, T)) {
    head.push(b'[');
    for value in values {
        append(head, value);
        head.push(b',');
    }
    // The last comma becomes the bracket.
    match head.last_mut() {
        Some(last) if *last == b',' => *last = b']',
        _ => head.push(b']'),
    }
}

/// The tensor's elements as one flat array.
pub(super) fn elements(head: &mut Vec<u8>, tensor: &Tensor) -> Result<(), Error> {
    let data = &tensor.data;
    match tensor.datatype {
        DataType::Bool => list(head, data.iter(), |head, &value| {
            head.extend_from_slice(if value == 0 { b"false".as_slice() } else { b"true" });
        }),
        DataType::Uint8 => integers(head, data.iter().copied()),
        DataType::Int8 => integers(head, values(data, i8::from_le_bytes)),
        DataType::Uint16 => integers(head, values(data, u16::from_le_bytes)),
        DataType::Int16 => integers(head, values(data, i16::from_le_bytes)),
        DataType::Uint32 => integers(head, values(data, u32::from_le_bytes)),
        DataType::Int32 => integers(head, values(data, i32::from_le_bytes)),
        DataType::Uint64 => integers(head, values(data, u64::from_le_bytes)),
        DataType::Int64 => integers(head, values(data, i64::from_le_bytes)),
        DataType::Fp32 => {
            refuse_not_finite(tensor, values(data, f32::from_le_bytes).position(|value| !value.is_finite()))?;
            floats(head, values(data, f32::from_le_bytes));
        }
        DataType::Fp64 => {
            refuse_not_finite(tensor, values(data, f64::from_le_bytes).position(|value| !value.is_finite()))?;
            floats(head, values(data, f64::from_le_bytes));
        }
        DataType::Bytes => return texts(head, tensor),
        DataType::Fp16 | DataType::Bf16 => return Err(no_json_form(&tensor.name, tensor.datatype)),
    }
    Ok(())
}

fn values<T, const W: usize>(data: &Bytes, read: impl Fn([u8; W]) -> T) -> impl Iterator<Item = T> {
    data.as_chunks::<W>().0.iter().map(move |&chunk| read(chunk))
}

fn refuse_not_finite(tensor: &Tensor, first: Option<usize>) -> Result<(), Error> {
    let Some(index) = first else { return Ok(()) };
    Err(Error::invalid(format!(
        "output '{}' element {index}: NaN and infinity have no JSON form, request the output with binary_data: true",
        tensor.name
    )))
}

fn texts(head: &mut Vec<u8>, tensor: &Tensor) -> Result<(), Error> {
    head.push(b'[');
    for (index, element) in BytesElements::new(&tensor.data).enumerate() {
        let element =
            element.map_err(|error| Error::internal(format!("output '{}': {error}", tensor.name)))?;
        let text = str::from_utf8(element).map_err(|_| {
            Error::invalid(format!(
                "output '{}' element {index}: it is not UTF-8 and has no JSON form, request the output with \
                 binary_data: true",
                tensor.name
            ))
        })?;
        if index > 0 {
            head.push(b',');
        }
        string(head, text);
    }
    head.push(b']');
    Ok(())
}
