//! The splitter as its callers see it: what is accepted, what is refused and in which words, that it says what the
//! JSON and binary forms of HTTP say, and that nothing makes it panic or grow.

mod hostile;
mod inputs;
mod same_as_http;

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::{Split, WholeMessage, split};
use crate::error::{Error, ErrorCode};
use crate::http::v2::codec::Limits;

/// A message that is being written.
#[derive(Clone, Debug, Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn bytes(mut self, number: u32, value: impl AsRef<[u8]>) -> Self {
        encode_key(number, WireType::LengthDelimited, &mut self.0);
        encode_varint(value.as_ref().len() as u64, &mut self.0);
        self.0.extend_from_slice(value.as_ref());
        self
    }

    fn message(self, number: u32, value: &Self) -> Self {
        self.bytes(number, &value.0)
    }

    fn varint(mut self, number: u32, value: u64) -> Self {
        encode_key(number, WireType::Varint, &mut self.0);
        encode_varint(value, &mut self.0);
        self
    }

    fn fixed(mut self, number: u32, value: &[u8]) -> Self {
        let wire_type = if value.len() == 4 { WireType::ThirtyTwoBit } else { WireType::SixtyFourBit };
        encode_key(number, wire_type, &mut self.0);
        self.0.extend_from_slice(value);
        self
    }

    fn packed(self, number: u32, values: impl IntoIterator<Item = u64>) -> Self {
        let mut list = Vec::new();
        values.into_iter().for_each(|value| encode_varint(value, &mut list));
        self.bytes(number, list)
    }

    /// An entry of a map of parameters.
    fn parameter(self, number: u32, name: &str, value: &Self) -> Self {
        self.message(number, &Self::default().bytes(1, name).message(2, value))
    }

    fn whole(&self) -> WholeMessage {
        WholeMessage(Bytes::from(self.0.clone()))
    }

    fn split(&self) -> Result<Split, Error> {
        split(&self.whole(), &Limits::default())
    }

    /// The message of a refusal, which must be the client's fault.
    fn refusal(&self) -> String {
        let error = self.split().expect_err("it should be refused");
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{error}");
        error.message.into_owned()
    }
}

/// An input without elements.
fn input(name: &str, datatype: &str, shape: &[i64]) -> Writer {
    let shape = shape.iter().map(|size| size.cast_unsigned());
    Writer::default().bytes(1, name).bytes(2, datatype).packed(3, shape)
}

/// A request of one input with its elements in raw form.
fn raw(datatype: &str, shape: &[i64], data: &[u8]) -> Writer {
    Writer::default().bytes(1, "m").message(5, &input("x", datatype, shape)).bytes(7, data)
}

/// A request of one input with these contents.
fn typed(datatype: &str, shape: &[i64], contents: &Writer) -> Writer {
    Writer::default().bytes(1, "m").message(5, &input("x", datatype, shape).message(5, contents))
}
