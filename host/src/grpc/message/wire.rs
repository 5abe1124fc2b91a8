//! The fields of a protobuf message, one after another, where they lie.
//!
//! Owns the wire format: keys, the four kinds of values, groups that are stepped over. It copies nothing and keeps
//! nothing.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::error::Error;

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// An integer or a bool.
    Varint(u64),
    /// An FP32.
    Fixed32([u8; 4]),
    /// An FP64.
    Fixed64([u8; 8]),
    /// A text, bytes, a message, or a packed list.
    Bytes(&'a [u8]),
}

/// Where the fields of one message are read.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a, 'p> {
    rest: &'a [u8],
    /// What the message is, for errors.
    path: &'p str,
}

impl<'a, 'p> Fields<'a, 'p> {
    pub(super) const fn new(message: &'a [u8], path: &'p str) -> Self {
        Self { rest: message, path }
    }

    /// The next field's number and value; groups, which nobody sends any more, are stepped over.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the message, if it breaks off or has what no message has.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Error> {
        while !self.rest.is_empty() {
            let (number, wire_type) = decode_key(&mut self.rest).map_err(|error| self.malformed(&error))?;
            let value = match wire_type {
                WireType::Varint => Value::Varint(self.varint()?),
                WireType::ThirtyTwoBit => Value::Fixed32(self.fixed(number)?),
                WireType::SixtyFourBit => Value::Fixed64(self.fixed(number)?),
                WireType::LengthDelimited => {
                    let length = self.varint()?;
                    Value::Bytes(self.take(number, length)?)
                }
                WireType::StartGroup | WireType::EndGroup => {
                    let skipped = skip_field(wire_type, number, &mut self.rest, DecodeContext::default());
                    skipped.map_err(|error| self.malformed(&error))?;
                    continue;
                }
            };
            return Ok(Some((number, value)));
        }
        Ok(None)
    }

    fn varint(&mut self) -> Result<u64, Error> {
        decode_varint(&mut self.rest).map_err(|error| self.malformed(&error))
    }

    fn fixed<const W: usize>(&mut self, number: u32) -> Result<[u8; W], Error> {
        let Some((value, rest)) = self.rest.split_first_chunk::<W>() else {
            return Err(self.cut_short(number, W as u64));
        };
        self.rest = rest;
        Ok(*value)
    }

    fn take(&mut self, number: u32, length: u64) -> Result<&'a [u8], Error> {
        let within = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let Some((value, rest)) = within else {
            return Err(self.cut_short(number, length));
        };
        self.rest = rest;
        Ok(value)
    }

    #[cold]
    fn cut_short(&self, number: u32, wanted: u64) -> Error {
        let left = self.rest.len();
        Error::invalid(format!(
            "{}: field {number} wants {wanted} bytes, but only {left} are left",
            self.path
        ))
    }

    #[cold]
    fn malformed(&self, error: &prost::DecodeError) -> Error {
        Error::invalid(format!("{}: it is no protobuf message: {error}", self.path))
    }
}

/// A value that has to be a text.
///
/// # Errors
/// `InvalidArgument`, naming the field, if it is not.
pub(super) fn text<'a>(value: Value<'a>, path: &dyn std::fmt::Display) -> Result<&'a str, Error> {
    str::from_utf8(bytes(value, path)?)
        .map_err(|error| Error::invalid(format!("{path}: it is not UTF-8 at byte {}", error.valid_up_to())))
}

/// A value that has to be bytes or a message.
///
/// # Errors
/// `InvalidArgument`, naming the field, if it is not.
pub(super) fn bytes<'a>(value: Value<'a>, path: &dyn std::fmt::Display) -> Result<&'a [u8], Error> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        Value::Varint(_) | Value::Fixed32(_) | Value::Fixed64(_) => Err(mistyped(path)),
    }
}

/// The field has another type than the protocol says.
#[cold]
pub(super) fn mistyped(path: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!("{path}: the field has another type than the protocol's"))
}
