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
    at: usize,
}

impl<'a> Fields<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next field.
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, CutShort> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
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
