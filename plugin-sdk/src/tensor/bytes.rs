//! The byte form of `BYTES` tensors: for each element a four-byte length and that many bytes.

use crate::error::{Error, Result};

/// The elements of a `BYTES` tensor, borrowed from it.
#[derive(Clone, Debug)]
pub struct BytesElements<'a> {
    rest: &'a [u8],
}

impl<'a> BytesElements<'a> {
    /// Reads bytes that [`check`] let pass.
    pub(super) const fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// The elements as text.
    ///
    /// # Errors
    /// `Internal`, naming the first element that is not UTF-8.
    pub fn strings(self) -> Result<Vec<&'a str>> {
        self.enumerate()
            .map(|(index, element)| {
                std::str::from_utf8(element)
                    .map_err(|error| Error::internal(format!("BYTES element {index} is no text: {error}")))
            })
            .collect()
    }
}

impl<'a> Iterator for BytesElements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let (element, rest) = split(self.rest)?;
        self.rest = rest;
        Some(element)
    }
}

/// The first element and what follows it.
fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, body) = data.split_first_chunk::<4>()?;
    body.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

pub(super) fn push(data: &mut Vec<u8>, element: &[u8]) -> Result<()> {
    let length = u32::try_from(element.len())
        .map_err(|_| Error::internal(format!("a BYTES element of {} bytes is over 4 GiB", element.len())))?;
    data.extend_from_slice(&length.to_le_bytes());
    data.extend_from_slice(element);
    Ok(())
}

pub(super) fn check(name: &str, shape: &[u32], data: &[u8], expected: usize) -> Result<()> {
    let mut rest = data;
    let mut found = 0_usize;
    while !rest.is_empty() {
        let Some((_, after)) = split(rest) else {
            return Err(Error::internal(format!(
                "tensor '{name}': BYTES element {found} is cut short, {} bytes are left",
                rest.len()
            )));
        };
        rest = after;
        found += 1;
    }
    if found == expected {
        return Ok(());
    }
    Err(Error::internal(format!(
        "tensor '{name}': BYTES of shape {shape:?} takes {expected} elements, got {found}"
    )))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::{DataType, Tensor};

    #[test]
    fn strings_go_in_and_come_out() {
        let tensor = Tensor::from_byte_strings("s", [3], ["ab", "", "é"]).unwrap();
        assert_eq!(tensor.data[..6], [2, 0, 0, 0, b'a', b'b']);
        assert_eq!(tensor.as_byte_strings().unwrap().strings().unwrap(), ["ab", "", "é"]);
        let binary = Tensor::from_byte_strings("s", [1], [[0xff]]).unwrap();
        let error = binary.as_byte_strings().unwrap().strings().unwrap_err();
        assert!(error.message.starts_with("BYTES element 0 is no text"), "{error}");
    }

    #[test]
    fn a_wrong_count_and_a_cut_are_named() {
        let error = Tensor::from_byte_strings("s", [2], ["ab"]).unwrap_err();
        assert_eq!(error.message, "tensor 's': BYTES of shape [2] takes 2 elements, got 1");
        let error = Tensor::from_bytes("s", DataType::Bytes, [1], vec![9, 0, 0, 0, 1]).unwrap_err();
        assert_eq!(error.message, "tensor 's': BYTES element 0 is cut short, 5 bytes are left");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_elements_survive(elements in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20)) {
            let tensor = Tensor::from_byte_strings("s", [elements.len() as u32], &elements).unwrap();
            prop_assert_eq!(tensor.as_byte_strings().unwrap().collect::<Vec<_>>(), elements);
        }

        #[test]
        fn any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..64), count in 0_u32..5) {
            if let Ok(tensor) = Tensor::from_bytes("s", DataType::Bytes, [count], data) {
                prop_assert_eq!(tensor.as_byte_strings().unwrap().count(), count as usize);
            }
        }
    }
}
