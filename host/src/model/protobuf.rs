//! The fields of a protobuf message.
//!
//! Owns the wire format, as far as ONNX's files have it. What a field means is its reader's to know.

/// A length or a number runs past the end, or is in a form that nothing writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file is cut short or is no ONNX model (at byte {0} of a message)")]
pub(super) struct CutShort(pub(super) usize);

/// What a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// A number.
    Number(u64),
    /// A message, a text, or elements one after the other.
    Bytes(&'a [u8]),
    /// Four or eight bytes.
    Fixed,
}

/// A field's number, and what it has.
type Field<'a> = (u64, Content<'a>);

/// The fields of one message, in the order of its bytes.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    /// Where the field begins that was read last.
    from: usize,
    at: usize,
}

impl<'a> Fields<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, from: 0, at: 0 }
    }

    /// The next field.
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, CutShort> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        self.from = self.at;
        let tag = self.number()?;
        // Readers differ in what they make of more than 32 bits, or of field 0: neither is written by any.
        if tag > u64::from(u32::MAX) || tag >> 3 == 0 {
            return Err(CutShort(self.at));
        }
        let content = match tag & 7 {
            0 => Content::Number(self.number()?),
            1 => {
                self.take(8)?;
                Content::Fixed
            }
            2 => {
                let length = usize::try_from(self.number()?).map_err(|_| CutShort(self.at))?;
                Content::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Content::Fixed
            }
            _ => return Err(CutShort(self.at)),
        };
        Ok(Some((tag >> 3, content)))
    }

    /// All of the field that was read last, with its tag.
    pub(super) fn whole(&self) -> &'a [u8] {
        self.bytes.get(self.from..self.at).unwrap_or_default()
    }

    /// The next number, where numbers follow each other without fields; `None` at the end.
    pub(super) fn next_number(&mut self) -> Result<Option<u64>, CutShort> {
        if self.at >= self.bytes.len() { Ok(None) } else { self.number().map(Some) }
    }

    fn number(&mut self) -> Result<u64, CutShort> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(CutShort(self.at))?;
            self.at += 1;
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CutShort(self.at))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], CutShort> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or(CutShort(self.at))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }
}

/// Writes a field that has bytes.
pub(super) fn write(to: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    write_number(to, field << 3 | 2);
    write_number(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

/// Writes a number, or a tag.
pub(super) fn write_number(to: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(fields in prop::collection::vec((1_u64..3000, prop::collection::vec(any::<u8>(), 0..300)), 0..20)) {
            let mut bytes = Vec::new();
            fields.iter().for_each(|(field, content)| write(&mut bytes, *field, content));
            let (mut read, mut whole, mut reader) = (Vec::new(), Vec::new(), Fields::new(&bytes));
            while let Some((field, Content::Bytes(content))) = reader.next().unwrap() {
                read.push((field, content.to_vec()));
                whole.extend_from_slice(reader.whole());
            }
            prop_assert_eq!(read, fields);
            prop_assert_eq!(whole, bytes);
        }
    }
}
