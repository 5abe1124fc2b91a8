//! The classification extension: an output as its greatest elements, `value:index` or `value:index:label`.
//!
//! Owns what counts as one row of an output and the text of an element. Labels are the bundle's.

use std::cmp::Ordering;

use half::{bf16, f16};

use crate::error::{Error, ErrorCode};
use crate::model::Labels;
use crate::model::tensor::{DataType, Tensor, push_bytes_element};

/// The `count` greatest elements of each row, greatest first, as BYTES of shape `[rows, count]`; without a dimension
/// of rows, `[count]`. A tensor has rows if `has_rows` and it has more than one dimension. Labels are by the position
/// within a row.
///
/// # Errors
/// `Unimplemented` for BYTES, which have no order of their own.
pub(super) fn classify(
    tensor: &Tensor,
    count: u64,
    has_rows: bool,
    labels: Option<&Labels>,
) -> Result<Tensor, Error> {
    let elements = tensor.element_count()?;
    let rows = match tensor.shape.as_slice() {
        [rows, _, ..] if has_rows => Some(*rows),
        _ => None,
    };
    let width = elements.checked_div(rows.unwrap_or(1)).unwrap_or(0);
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(width);
    let mut data = Vec::new();
    let values = Values::new(tensor)?;
    // Rows of nothing give nothing, however many there are.
    let filled = if width == 0 { 0 } else { rows.unwrap_or(1) };
    for row in 0..filled {
        let mut order: Vec<usize> = (row * width..(row + 1) * width).collect();
        let by_rank = |left: &usize, right: &usize| values.descending(*left, *right).then(left.cmp(right));
        if count < order.len() {
            order.select_nth_unstable_by(count, by_rank);
            order.truncate(count);
        }
        order.sort_unstable_by(by_rank);
        for at in order {
            let index = at - row * width;
            let value = values.text(at);
            let text = match labels.and_then(|labels| labels.get(index)) {
                Some(label) => format!("{value}:{index}:{label}"),
                None => format!("{value}:{index}"),
            };
            push_bytes_element(&mut data, text.as_bytes())?;
        }
    }
    let shape = rows.into_iter().chain([count]).collect();
    Tensor::new(tensor.name.clone(), DataType::Bytes, shape, data)
}

/// Elements as numbers that compare and print as what they are.
enum Values<'a> {
    Float(Vec<f64>),
    Signed(Box<dyn Fn(usize) -> i64 + 'a>),
    Unsigned(Box<dyn Fn(usize) -> u64 + 'a>),
}

/// The elements of `width` bytes, each by its position.
fn fixed<const WIDTH: usize>(data: &[u8]) -> impl Fn(usize) -> [u8; WIDTH] {
    let (elements, _) = data.as_chunks::<WIDTH>();
    move |at| elements.get(at).copied().unwrap_or([0; WIDTH])
}

impl<'a> Values<'a> {
    fn new(tensor: &'a Tensor) -> Result<Self, Error> {
        let data = tensor.data.as_ref();
        let floats2 =
            |read: fn([u8; 2]) -> f64| data.as_chunks().0.iter().map(|&bytes| read(bytes)).collect();
        Ok(match tensor.datatype {
            DataType::Fp64 => {
                Self::Float(data.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect())
            }
            DataType::Fp32 => {
                Self::Float(data.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect())
            }
            DataType::Fp16 => Self::Float(floats2(|bytes| f16::from_le_bytes(bytes).to_f64())),
            DataType::Bf16 => Self::Float(floats2(|bytes| bf16::from_le_bytes(bytes).to_f64())),
            DataType::Bool | DataType::Uint8 => unsigned(fixed(data), |bytes: [u8; 1]| bytes[0].into()),
            DataType::Uint16 => unsigned(fixed(data), |bytes| u16::from_le_bytes(bytes).into()),
            DataType::Uint32 => unsigned(fixed(data), |bytes| u32::from_le_bytes(bytes).into()),
            DataType::Uint64 => unsigned(fixed(data), u64::from_le_bytes),
            DataType::Int8 => signed(fixed(data), |bytes| i8::from_le_bytes(bytes).into()),
            DataType::Int16 => signed(fixed(data), |bytes| i16::from_le_bytes(bytes).into()),
            DataType::Int32 => signed(fixed(data), |bytes| i32::from_le_bytes(bytes).into()),
            DataType::Int64 => signed(fixed(data), i64::from_le_bytes),
            DataType::Bytes => {
                let message = format!(
                    "output '{}': classification is not served for BYTES, which have no order",
                    tensor.name
                );
                return Err(Error::new(ErrorCode::Unimplemented, message));
            }
        })
    }

    /// The greater first; what is no number comes last.
    fn descending(&self, left: usize, right: usize) -> Ordering {
        match self {
            Self::Float(values) => {
                let at = |position: usize| values.get(position).copied().unwrap_or(f64::NAN);
                let (left, right) = (at(left), at(right));
                left.is_nan().cmp(&right.is_nan()).then(right.partial_cmp(&left).unwrap_or(Ordering::Equal))
            }
            Self::Signed(at) => at(right).cmp(&at(left)),
            Self::Unsigned(at) => at(right).cmp(&at(left)),
        }
    }

    /// As C++'s `std::to_string` has it, which clients parse.
    fn text(&self, at: usize) -> String {
        match self {
            Self::Float(values) => match values.get(at) {
                Some(value) if value.is_nan() => "nan".to_owned(),
                Some(value) => format!("{value:.6}"),
                None => String::new(),
            },
            Self::Signed(value) => value(at).to_string(),
            Self::Unsigned(value) => value(at).to_string(),
        }
    }
}

fn unsigned<'a, const WIDTH: usize>(
    at: impl Fn(usize) -> [u8; WIDTH] + 'a,
    read: fn([u8; WIDTH]) -> u64,
) -> Values<'a> {
    Values::Unsigned(Box::new(move |position| read(at(position))))
}

fn signed<'a, const WIDTH: usize>(
    at: impl Fn(usize) -> [u8; WIDTH] + 'a,
    read: fn([u8; WIDTH]) -> i64,
) -> Values<'a> {
    Values::Signed(Box::new(move |position| read(at(position))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn floats(shape: Vec<usize>, values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::new("y", DataType::Fp32, shape, data).unwrap()
    }

    fn texts(tensor: &Tensor) -> Vec<String> {
        let mut rest = tensor.data.as_ref();
        let mut texts = Vec::new();
        while let Some((length, behind)) = rest.split_first_chunk() {
            let (text, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
            texts.push(String::from_utf8(text.to_vec()).unwrap());
            rest = behind;
        }
        texts
    }

    #[test]
    fn the_greatest_of_each_row_come_first() {
        let tensor = floats(vec![2, 3], &[0.1, 0.7, 0.2, 5.0, -1.0, 5.0]);
        let top = classify(&tensor, 2, true, None).unwrap();
        assert_eq!((top.datatype, top.shape.as_slice()), (DataType::Bytes, &[2, 2][..]));
        assert_eq!(texts(&top), ["0.700000:1", "0.200000:2", "5.000000:0", "5.000000:2"]);
        let all = classify(&tensor, 100, false, None).unwrap();
        assert_eq!(all.shape, [6]);
        assert_eq!(texts(&all)[..2], ["5.000000:3", "5.000000:5"]);
        assert_eq!(classify(&floats(vec![0, 3], &[]), 2, true, None).unwrap().shape, [0, 0]);
        assert_eq!(classify(&floats(vec![], &[1.5]), 2, true, None).unwrap().shape, [1]);
        let rows = i32::MAX as usize;
        assert_eq!(classify(&floats(vec![rows, 0], &[]), 2, true, None).unwrap().shape, [rows, 0]);
    }

    #[test]
    fn elements_have_the_labels_of_their_place_in_the_row() {
        let tensor = floats(vec![2, 3], &[0.1, 0.7, 0.2, 5.0, -1.0, 5.0]);
        let labels = Labels::parse(b"cat\ndog: big").unwrap();
        let top = classify(&tensor, 2, true, Some(&labels)).unwrap();
        assert_eq!(texts(&top), ["0.700000:1:dog: big", "0.200000:2", "5.000000:0:cat", "5.000000:2"]);
    }

    #[test]
    fn what_is_no_number_comes_last_and_integers_keep_all_digits() {
        let odd = floats(vec![4], &[f32::NAN, f32::NEG_INFINITY, 1.0, f32::INFINITY]);
        assert_eq!(
            texts(&classify(&odd, 4, true, None).unwrap()),
            ["inf:3", "1.000000:2", "-inf:1", "nan:0"]
        );
        let data: Vec<u8> =
            [u64::MAX, 0, u64::MAX - 1].iter().flat_map(|value| value.to_le_bytes()).collect();
        let large = Tensor::new("y", DataType::Uint64, vec![3], data).unwrap();
        assert_eq!(
            texts(&classify(&large, 2, true, None).unwrap()),
            ["18446744073709551615:0", "18446744073709551614:2"]
        );
        let bytes = Tensor::new("y", DataType::Int8, vec![3], vec![0xff, 1, 0x80]).unwrap();
        assert_eq!(texts(&classify(&bytes, 3, true, None).unwrap()), ["1:1", "-1:0", "-128:2"]);
        let text = Tensor::new("y", DataType::Bytes, vec![1], vec![0; 4]).unwrap();
        assert_eq!(classify(&text, 1, true, None).unwrap_err().code, ErrorCode::Unimplemented);
    }

    proptest! {
        #[test]
        fn it_is_what_sorting_all_of_it_gives(values in prop::collection::vec(-9_i16..9, 1..40), count in 1_u64..50) {
            let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let tensor = Tensor::new("y", DataType::Int16, vec![values.len()], data).unwrap();
            let mut sorted: Vec<(i16, usize)> = values.iter().copied().zip(0..).collect();
            sorted.sort_by_key(|&(value, at)| (std::cmp::Reverse(value), at));
            let expected: Vec<String> =
                sorted.iter().take(count as usize).map(|(value, at)| format!("{value}:{at}")).collect();
            prop_assert_eq!(texts(&classify(&tensor, count, false, None).unwrap()), expected);
        }
    }
}
