//! Named arrays as they travel through the host: from a request's body or a plugin to a model,
//! and back.
//!
//! Owns the protocol's datatypes, the byte form of each, and the check that bytes, shape and
//! datatype agree. It never copies a tensor's bytes, and never names ONNX Runtime.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::error::Error;

/// An element type of the Open Inference Protocol v2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// One byte, 0 or 1.
    Bool,
    /// One byte.
    Uint8,
    /// Two bytes, little-endian, as all that follow.
    Uint16,
    /// Four bytes.
    Uint32,
    /// Eight bytes.
    Uint64,
    /// One byte.
    Int8,
    /// Two bytes.
    Int16,
    /// Four bytes.
    Int32,
    /// Eight bytes.
    Int64,
    /// Two bytes, IEEE 754 binary16.
    Fp16,
    /// Four bytes, IEEE 754 binary32.
    Fp32,
    /// Eight bytes, IEEE 754 binary64.
    Fp64,
    /// Two bytes, the upper half of an FP32.
    Bf16,
    /// For each element a four-byte length and that many bytes.
    Bytes,
}

impl DataType {
    /// All of them, in the order of the WIT enum.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Fp32,
        Self::Fp64,
        Self::Bf16,
        Self::Bytes,
    ];

    /// The protocol's name: `FP32`, `INT64`, `BYTES` …
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bf16 => "BF16",
            Self::Bytes => "BYTES",
        }
    }

    /// Bytes per element; `None` for [`DataType::Bytes`], whose elements differ in length.
    pub const fn width(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no datatype of the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no datatype: one of BOOL, UINT8 to UINT64, INT8 to INT64, FP16, FP32, FP64, BF16, BYTES")]
pub struct UnknownDataType(String);

impl FromStr for DataType {
    type Err = UnknownDataType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|datatype| datatype.as_str() == text)
            .ok_or_else(|| UnknownDataType(text.chars().take(40).collect()))
    }
}

/// A dense, named array. Cloning it shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// The model's input or output that this is.
    pub name: String,
    /// What each element is.
    pub datatype: DataType,
    /// The size of each dimension, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements, row-major, little-endian, without padding.
    pub data: Bytes,
}

impl Tensor {
    /// A tensor whose bytes, shape and datatype agree.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the tensor, if they do not.
    pub fn new(
        name: impl Into<String>,
        datatype: DataType,
        shape: Vec<usize>,
        data: impl Into<Bytes>,
    ) -> Result<Self, Error> {
        let tensor = Self { name: name.into(), datatype, shape, data: data.into() };
        tensor.check()?;
        Ok(tensor)
    }

    /// The product of the shape.
    ///
    /// # Errors
    /// `InvalidArgument` if it does not fit a `usize`.
    pub fn element_count(&self) -> Result<usize, Error> {
        element_count(&self.name, &self.shape)
    }

    fn check(&self) -> Result<(), Error> {
        let elements = self.element_count()?;
        let Some(width) = self.datatype.width() else {
            return self.check_bytes(elements);
        };
        let expected = elements.checked_mul(width).ok_or_else(|| too_many(&self.name, &self.shape))?;
        if self.data.len() != expected {
            return Err(Error::invalid(format!(
                "tensor '{}': {} of shape {:?} takes {expected} bytes, got {}",
                self.name,
                self.datatype,
                self.shape,
                self.data.len()
            )));
        }
        if self.datatype == DataType::Bool
            && let Some(at) = self.data.iter().position(|&byte| byte > 1)
        {
            return Err(Error::invalid(format!(
                "tensor '{}': element {at} of BOOL must be 0 or 1, got {}",
                self.name, self.data[at]
            )));
        }
        Ok(())
    }

    fn check_bytes(&self, expected: usize) -> Result<(), Error> {
        let mut found = 0_usize;
        for element in BytesElements::new(&self.data) {
            element.map_err(|error| Error::invalid(format!("tensor '{}': {error}", self.name)))?;
            found += 1;
        }
        if found != expected {
            return Err(Error::invalid(format!(
                "tensor '{}': BYTES of shape {:?} takes {expected} elements, got {found}",
                self.name, self.shape
            )));
        }
        Ok(())
    }
}

/// What the shape of a tensor without elements may span, at most, wherever it comes from.
const MOST_OF_NOTHING: usize = i32::MAX as usize;

/// The product of a tensor's shape, or `InvalidArgument` if it does not fit a `usize`, or spans what no memory could
/// hold although a 0 makes it nothing: who walks over the rows of a tensor walks over those, too.
///
/// # Errors
/// `InvalidArgument`, naming the tensor.
pub fn element_count(name: &str, shape: &[usize]) -> Result<usize, Error> {
    let span = span(shape).ok_or_else(|| too_many(name, shape))?;
    if !shape.contains(&0) {
        return Ok(span);
    }
    if span <= MOST_OF_NOTHING { Ok(0) } else { Err(empty_span(name, shape)) }
}

/// Holds a shape without elements to the bytes that it would take if each 0 in it were a 1: a model may make an output
/// of that size of it.
///
/// # Errors
/// `InvalidArgument`, naming the tensor.
pub fn check_span(name: &str, datatype: DataType, shape: &[usize], most_bytes: usize) -> Result<(), Error> {
    let bytes = span(shape).and_then(|span| span.checked_mul(datatype.width().unwrap_or(4)));
    let fits = !shape.contains(&0) || bytes.is_some_and(|bytes| bytes <= most_bytes);
    if fits { Ok(()) } else { Err(empty_span(name, shape)) }
}

/// The product of a shape, each 0 counted as a 1.
fn span(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, &dimension| product.checked_mul(dimension.max(1)))
}

fn empty_span(name: &str, shape: &[usize]) -> Error {
    Error::invalid(format!(
        "tensor '{name}': shape {shape:?} has no elements, but its other dimensions span more than a request may have"
    ))
}

fn too_many(name: &str, shape: &[usize]) -> Error {
    Error::invalid(format!("tensor '{name}': shape {shape:?} has more elements than memory could hold"))
}

/// The elements of a BYTES tensor, read from its length-prefixed form.
#[derive(Clone, Debug)]
pub struct BytesElements<'a> {
    rest: &'a [u8],
    index: usize,
}

/// A BYTES tensor ends within an element.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("BYTES element {index} wants {wanted} bytes, but only {left} are left")]
pub struct BytesCutShort {
    index: usize,
    wanted: usize,
    left: usize,
}

impl<'a> BytesElements<'a> {
    /// Reads `data`, each element a four-byte little-endian length and that many bytes.
    pub const fn new(data: &'a [u8]) -> Self {
        Self { rest: data, index: 0 }
    }
}

impl<'a> Iterator for BytesElements<'a> {
    type Item = Result<&'a [u8], BytesCutShort>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let index = self.index;
        self.index += 1;
        let left = self.rest.len();
        let Some((length, body)) = std::mem::take(&mut self.rest).split_first_chunk::<4>() else {
            return Some(Err(BytesCutShort { index, wanted: 4, left }));
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > body.len() {
            return Some(Err(BytesCutShort { index, wanted: length.saturating_add(4), left }));
        }
        let (element, rest) = body.split_at(length);
        self.rest = rest;
        Some(Ok(element))
    }
}

/// Appends one element to the byte form of a BYTES tensor.
///
/// # Errors
/// `InvalidArgument` if the element is longer than a `u32` can say.
pub fn push_bytes_element(data: &mut Vec<u8>, element: &[u8]) -> Result<(), Error> {
    let length = u32::try_from(element.len())
        .map_err(|_| Error::invalid(format!("a BYTES element of {} bytes is over 4 GiB", element.len())))?;
    data.extend_from_slice(&length.to_le_bytes());
    data.extend_from_slice(element);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_count_that_does_not_fit_names_the_tensor_and_both_counts() {
        let error = Tensor::new("x", DataType::Fp32, vec![2, 2], vec![0; 15]).unwrap_err();
        assert_eq!(error.message, "tensor 'x': FP32 of shape [2, 2] takes 16 bytes, got 15");
    }

    #[test]
    fn a_shape_that_overflows_is_refused() {
        let error = Tensor::new("x", DataType::Fp32, vec![usize::MAX, 2], vec![]).unwrap_err();
        assert!(error.message.contains("more elements than memory"), "{error}");
    }

    #[test]
    fn a_shape_of_nothing_may_not_span_more_than_there_could_be() {
        let error = Tensor::new("x", DataType::Fp32, vec![0, usize::MAX, 2], vec![]).unwrap_err();
        assert!(error.message.contains("more elements than memory"), "{error}");
        for shape in [vec![1 << 60, 0], vec![0, 1 << 16, 1 << 16]] {
            let error = Tensor::new("x", DataType::Fp32, shape, vec![]).unwrap_err();
            assert_eq!(error.code, crate::error::ErrorCode::InvalidArgument);
            assert!(error.message.contains("no elements"), "{error}");
        }
        for shape in [vec![0], vec![8, 0], vec![0, 512, 768]] {
            assert_eq!(Tensor::new("x", DataType::Fp32, shape, vec![]).unwrap().element_count(), Ok(0));
        }
        assert!(check_span("x", DataType::Fp32, &[25, 0], 100).is_ok());
        assert!(check_span("x", DataType::Fp32, &[26, 0], 100).is_err());
        assert!(
            check_span("x", DataType::Fp32, &[1000], 100).is_ok(),
            "its elements are counted as they come"
        );
    }

    #[test]
    fn bytes_elements_are_read_back_and_a_cut_is_named() {
        let mut data = Vec::new();
        push_bytes_element(&mut data, b"ab").unwrap();
        push_bytes_element(&mut data, b"").unwrap();
        let read: Vec<_> = BytesElements::new(&data).map(Result::unwrap).collect();
        assert_eq!(read, [b"ab".as_slice(), b""]);

        let error = Tensor::new("s", DataType::Bytes, vec![2], data[..9].to_vec()).unwrap_err();
        assert_eq!(error.message, "tensor 's': BYTES element 1 wants 4 bytes, but only 3 are left");
    }

    #[test]
    fn a_bool_that_is_neither_0_nor_1_is_refused() {
        let error = Tensor::new("b", DataType::Bool, vec![2], vec![0, 7]).unwrap_err();
        assert_eq!(error.message, "tensor 'b': element 1 of BOOL must be 0 or 1, got 7");
    }
}
