//! Several requests as one run: their inputs behind each other, and the outputs taken apart again.
//!
//! Owns where each request's items lie in a batch. A batch's items are its tensors' first dimension, in the
//! order of the requests; nothing is padded. It never decides which requests run together.

use bytes::Bytes;

use super::values::Elements;
use crate::error::Error;
use crate::model::tensor::{BytesElements, Tensor};

/// Memory that a session keeps for one of its inputs, from batch to batch: as large as the largest of them.
///
/// Words of eight bytes, so that it is aligned for every datatype.
#[derive(Debug, Default)]
pub(super) struct GatherBuffer {
    words: Vec<u64>,
    shape: Vec<usize>,
}

impl GatherBuffer {
    /// Copies the requests' tensors for input number `position` behind each other.
    ///
    /// # Errors
    /// `Internal` if they are not alike but for their first dimension: the caller should have seen to it.
    pub(super) fn gather(&mut self, requests: &[&[Tensor]], position: usize) -> Result<Elements<'_>, Error> {
        let unlike =
            || Error::internal(format!("requests that differ at input {position} were put together"));
        let mut tensors = requests.iter().map(|inputs| inputs.get(position));
        let first = tensors.next().flatten().ok_or_else(unlike)?;
        let (&first_items, rest) = first.shape.split_first().ok_or_else(unlike)?;
        let (mut items, mut bytes) = (first_items, first.data.len());
        for tensor in tensors {
            let tensor = tensor.ok_or_else(unlike)?;
            match tensor.shape.split_first() {
                Some((&more, same)) if same == rest && tensor.datatype == first.datatype => items += more,
                _ => return Err(unlike()),
            }
            bytes += tensor.data.len();
        }
        let words = bytes.div_ceil(size_of::<u64>());
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
        let target: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        let mut at = 0;
        for tensor in requests.iter().filter_map(|inputs| inputs.get(position)) {
            let end = at + tensor.data.len();
            let Some(place) = target.get_mut(at..end) else {
                return Err(unlike());
            };
            place.copy_from_slice(&tensor.data);
            at = end;
        }
        self.shape.clear();
        self.shape.push(items);
        self.shape.extend_from_slice(rest);
        Ok(Elements {
            datatype: first.datatype,
            shape: &self.shape,
            data: &bytemuck::cast_slice(&self.words)[..bytes],
        })
    }
}

/// A batch's output does not have one row for each item that went in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("output '{name}' has shape {shape:?} for a batch of {items} items")]
pub struct DoesNotFollow {
    /// The output.
    pub name: String,
    /// What came.
    pub shape: Vec<usize>,
    /// How many items went in.
    pub items: usize,
}

/// Takes a batch's output apart: one tensor for each of `items`, with so many rows, in that order. The parts
/// share the output's memory.
///
/// # Errors
/// [`DoesNotFollow`].
pub fn split(output: &Tensor, items: &[usize]) -> Result<Vec<Tensor>, DoesNotFollow> {
    let total: usize = items.iter().sum();
    let does_not_follow =
        || DoesNotFollow { name: output.name.clone(), shape: output.shape.clone(), items: total };
    let (&rows, rest) = output.shape.split_first().ok_or_else(does_not_follow)?;
    if rows != total {
        return Err(does_not_follow());
    }
    let row_elements: usize = rest.iter().product();
    let mut left = output.data.clone();
    items
        .iter()
        .map(|&rows| {
            let length = match output.datatype.width() {
                Some(width) => rows * row_elements * width,
                None => length_of(&left, rows * row_elements),
            };
            if length > left.len() {
                return Err(does_not_follow());
            }
            let mut shape = Vec::with_capacity(output.shape.len());
            shape.push(rows);
            shape.extend_from_slice(rest);
            let (name, datatype) = (output.name.clone(), output.datatype);
            Ok(Tensor { name, datatype, shape, data: left.split_to(length) })
        })
        .collect()
}

/// Bytes of the first `count` elements of a BYTES tensor.
fn length_of(data: &Bytes, count: usize) -> usize {
    BytesElements::new(data)
        .take(count)
        .map(|element| element.map_or(usize::MAX / 2, |element| element.len() + size_of::<u32>()))
        .fold(0, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tensor::{DataType, push_bytes_element};
    use proptest::prelude::*;

    /// A tensor of `rows` rows of `width` texts or bytes, the elements told apart by `tag`.
    fn tensor(datatype: DataType, rows: usize, width: usize, tag: u8) -> Tensor {
        let mut data = Vec::new();
        for index in 0..rows * width {
            match datatype {
                DataType::Bytes => push_bytes_element(&mut data, &vec![tag; index % 5]).unwrap(),
                _ => data.extend_from_slice(&vec![tag; datatype.width().unwrap()]),
            }
        }
        Tensor::new("x", datatype, vec![rows, width], data).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_gathered_comes_apart_again(
            rows in proptest::collection::vec(1_usize..5, 1..9),
            width in 0_usize..4,
            kind in 0_usize..4,
        ) {
            let datatype = [DataType::Fp32, DataType::Uint8, DataType::Int64, DataType::Bytes][kind];
            let requests: Vec<Vec<Tensor>> = rows
                .iter()
                .zip(1_u8..)
                .map(|(&rows, tag)| vec![tensor(datatype, rows, width, tag)])
                .collect();
            let requests: Vec<&[Tensor]> = requests.iter().map(Vec::as_slice).collect();
            let mut buffer = GatherBuffer::default();
            // A larger batch before leaves nothing behind.
            let larger = [tensor(datatype, 40, 4, 255)];
            buffer.gather(&[&larger], 0).unwrap();
            let batch = buffer.gather(&requests, 0).unwrap();
            let whole = Tensor::new("x", datatype, batch.shape.to_vec(), batch.data.to_vec()).unwrap();
            let parts = split(&whole, &rows).unwrap();
            for (part, request) in parts.iter().zip(&requests) {
                prop_assert_eq!(part, &request[0]);
            }
        }
    }

    #[test]
    fn requests_that_differ_are_not_put_together() {
        let (wide, narrow) = ([tensor(DataType::Fp32, 1, 3, 1)], [tensor(DataType::Fp32, 1, 2, 1)]);
        let other = [tensor(DataType::Int32, 1, 3, 1)];
        let mut buffer = GatherBuffer::default();
        for requests in [[&wide[..], &narrow], [&wide, &other], [&wide, &[]]] {
            assert!(buffer.gather(&requests, 0).is_err());
        }
    }

    #[test]
    fn an_output_that_does_not_follow_is_named() {
        let output = tensor(DataType::Fp32, 3, 2, 1);
        let error = split(&output, &[1, 1]).unwrap_err();
        assert_eq!(error.to_string(), "output 'x' has shape [3, 2] for a batch of 2 items");
        let scalar = Tensor::new("x", DataType::Fp32, vec![], vec![0; 4]).unwrap();
        assert!(split(&scalar, &[1]).is_err());
    }
}
