//! The elements of one JSON array, by datatype.
//!
//! Owns how an element is spelled and what a failure says of it. A run knows neither the shape nor
//! the tensor's name: `elements` asks for so many elements and names what is refused.

use super::fault::{Fault, shorten};
use super::number::{self, Number};
use super::reader::{Reader, after_space};
use crate::model::tensor::{DataType, push_bytes_element};

/// Reads elements of one datatype, with commas between them.
pub(super) trait Run {
    /// Appends elements to `data` until `wanted` (1 or more) are read, or no comma follows. Stops
    /// before the comma or bracket that comes next, and counts every element read, even on failure.
    fn read(
        &self,
        reader: &mut Reader<'_>,
        wanted: usize,
        count: &mut usize,
        data: &mut Vec<u8>,
    ) -> Result<(), Fault>;
}

/// Numbers, `W` bytes each.
struct Numbers<Convert, Refuse> {
    datatype: DataType,
    /// The number's bytes, or `None` if the datatype cannot hold it.
    convert: Convert,
    /// Why it cannot.
    refuse: Refuse,
}

/// Integers, checked against the range of `T`.
pub(super) fn integers<T: TryFrom<i128>, const W: usize>(
    datatype: DataType,
    to_bytes: impl Fn(T) -> [u8; W],
) -> impl Run {
    let convert = move |number: &Number<'_>| {
        let value = number.integer()?;
        T::try_from(value).ok().map(&to_bytes)
    };
    let refuse = move |number: &Number<'_>| {
        let spelled = shorten(number.text());
        if number.is_integral() {
            format!("{spelled} is out of range for {datatype}")
        } else {
            format!("{spelled} is not an integer, {datatype} has no fractions and no exponents")
        }
    };
    Numbers { datatype, convert, refuse }
}

/// Floats, rounded to the nearest.
pub(super) fn floats<const W: usize>(
    datatype: DataType,
    convert: impl Fn(&Number<'_>) -> Option<[u8; W]>,
) -> impl Run {
    let refuse =
        move |number: &Number<'_>| format!("{} is out of range for {datatype}", shorten(number.text()));
    Numbers { datatype, convert, refuse }
}

impl<Convert, Refuse, const W: usize> Run for Numbers<Convert, Refuse>
where
    Convert: Fn(&Number<'_>) -> Option<[u8; W]>,
    Refuse: Fn(&Number<'_>) -> String,
{
    fn read(
        &self,
        reader: &mut Reader<'_>,
        wanted: usize,
        count: &mut usize,
        data: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let text = reader.text();
        let bytes = text.as_bytes();
        // The position stays in a register: through `reader` each step would wait for memory.
        let mut at = reader.position();
        for _ in 0..wanted {
            at = after_space(bytes, at);
            let Some((number, end)) = number::scan(text, at) else {
                reader.seek(at);
                return Err(no_number(reader, self.datatype));
            };
            let Some(element) = (self.convert)(&number) else {
                return Err(Fault::Here((self.refuse)(&number)));
            };
            data.extend_from_slice(&element);
            *count += 1;
            at = after_space(bytes, end);
            reader.seek(at);
            if bytes.get(at) != Some(&b',') {
                break;
            }
            at += 1;
        }
        Ok(())
    }
}

#[cold]
fn no_number(reader: &Reader<'_>, datatype: DataType) -> Fault {
    let float = matches!(datatype, DataType::Fp32 | DataType::Fp64);
    let nan = matches!(reader.peek(), Some(b'n' | b'N' | b'I' | b'-'));
    let hint =
        if float && nan { " (NaN and infinity have no JSON form, send them in the binary form)" } else { "" };
    let kind = if float { "a number" } else { "an integer" };
    reader.expected(&format!("{kind} for {datatype}{hint}"))
}

/// Elements that the closure reads, each at the cursor.
pub(super) struct OneByOne<Element>(pub(super) Element);

impl<Element> Run for OneByOne<Element>
where
    Element: Fn(&mut Reader<'_>, &mut Vec<u8>) -> Result<(), Fault>,
{
    fn read(
        &self,
        reader: &mut Reader<'_>,
        wanted: usize,
        count: &mut usize,
        data: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        for index in 0..wanted {
            if index > 0 && !reader.eat(b',') {
                break;
            }
            reader.skip_space();
            (self.0)(reader, data)?;
            *count += 1;
        }
        Ok(())
    }
}

/// `true`, `false`, 1 or 0.
pub(super) fn bool_element(reader: &mut Reader<'_>, data: &mut Vec<u8>) -> Result<(), Fault> {
    let value = match reader.peek() {
        Some(b'-' | b'0'..=b'9') => {
            let number = reader.number()?;
            match number.integer() {
                Some(0) => false,
                Some(1) => true,
                _ => {
                    return Err(Fault::Here(format!(
                        "{} is not a BOOL: true, false, 1 or 0",
                        shorten(number.text())
                    )));
                }
            }
        }
        _ => reader.boolean().map_err(|_| reader.expected("true, false, 1 or 0 for BOOL"))?,
    };
    data.push(u8::from(value));
    Ok(())
}

/// A string, whose UTF-8 becomes the element.
pub(super) fn bytes_element(reader: &mut Reader<'_>, data: &mut Vec<u8>) -> Result<(), Fault> {
    if reader.peek() != Some(b'"') {
        return Err(reader.expected("a string for BYTES"));
    }
    Ok(push_bytes_element(data, reader.string()?.as_bytes())?)
}
