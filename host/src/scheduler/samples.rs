//! Requests that a host makes up to get to know a model.
//!
//! Owns what is in them: numbers from 0 to 1, whole ones 0 or 1 (most models take both as an index, a token
//! or a mask), short texts. The same every time.

use half::{bf16, f16};

use crate::model::tensor::{DataType, Tensor, push_bytes_element};
use crate::model::{Signature, TensorSpec};

/// Bytes of one made-up item, at most; larger models are not examined.
const MOST_BYTES: usize = 64 << 20;

/// An item for each input: first dimension 1, every other open one `open`. Items of another `seed` differ in
/// every element that can. `None` if it would be too large.
pub(super) fn item(signature: &Signature, open: usize, seed: u64) -> Option<Vec<Tensor>> {
    signature.inputs.iter().map(|spec| tensor(spec, open, seed)).collect()
}

fn tensor(spec: &TensorSpec, open: usize, seed: u64) -> Option<Tensor> {
    let rest = spec.shape.iter().skip(1);
    let rest = rest.map(|&dimension| usize::try_from(dimension).unwrap_or(open));
    let shape: Vec<usize> = std::iter::once(1).chain(rest).collect();
    let elements = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))?;
    if elements.checked_mul(spec.datatype.width().unwrap_or(size_of::<u64>()))? > MOST_BYTES {
        return None;
    }
    let mut data = Vec::new();
    // Whole numbers begin with a 1 in one item and a 0 in the next, so that two items are never the same.
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for index in 0..elements {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bit = if index == 0 { seed & 1 } else { state >> 63 };
        push(&mut data, spec.datatype, bit == 1, (state >> 40) as f32 / 16_777_216.0)?;
    }
    Tensor::new(spec.name.clone(), spec.datatype, shape, data).ok()
}

fn push(data: &mut Vec<u8>, datatype: DataType, bit: bool, real: f32) -> Option<()> {
    match datatype {
        DataType::Fp16 => data.extend_from_slice(&f16::from_f32(real).to_le_bytes()),
        DataType::Bf16 => data.extend_from_slice(&bf16::from_f32(real).to_le_bytes()),
        DataType::Fp32 => data.extend_from_slice(&real.to_le_bytes()),
        DataType::Fp64 => data.extend_from_slice(&f64::from(real).to_le_bytes()),
        DataType::Bytes => push_bytes_element(data, if bit { b"a" } else { b"bc" }).ok()?,
        whole => {
            data.push(u8::from(bit));
            data.resize(data.len() + whole.width()?.saturating_sub(1), 0);
        }
    }
    Some(())
}

/// How far an output is from what it should be, relative to the largest finite number in it; 0 for the same
/// bytes, infinite where no tolerance helps: other shapes, texts, whole numbers.
pub(super) fn distance(expected: &Tensor, got: &Tensor) -> f64 {
    if (expected.datatype, &expected.shape) != (got.datatype, &got.shape) {
        return f64::INFINITY;
    }
    if expected.data == got.data {
        return 0.0;
    }
    let (Some(expected), Some(got)) = (reals(expected), reals(got)) else {
        return f64::INFINITY;
    };
    let finite = expected.iter().copied().filter(|value| value.is_finite());
    let largest = finite.map(f64::abs).fold(f64::MIN_POSITIVE, f64::max);
    let apart = |(&left, &right): (&f64, &f64)| {
        if left == right || (left.is_nan() && right.is_nan()) {
            return 0.0;
        }
        let distance = (left - right).abs() / largest;
        if distance.is_nan() { f64::INFINITY } else { distance }
    };
    expected.iter().zip(&got).map(apart).fold(0.0, f64::max)
}

fn reals(tensor: &Tensor) -> Option<Vec<f64>> {
    fn read<const WIDTH: usize>(data: &[u8], value: impl Fn([u8; WIDTH]) -> f64) -> Vec<f64> {
        data.as_chunks::<WIDTH>().0.iter().map(|&bytes| value(bytes)).collect()
    }
    let data = &tensor.data;
    match tensor.datatype {
        DataType::Fp16 => Some(read(data, |bytes| f16::from_le_bytes(bytes).to_f64())),
        DataType::Bf16 => Some(read(data, |bytes| bf16::from_le_bytes(bytes).to_f64())),
        DataType::Fp32 => Some(read(data, |bytes| f64::from(f32::from_le_bytes(bytes)))),
        DataType::Fp64 => Some(read(data, f64::from_le_bytes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_items_are_never_the_same_and_one_is_always() {
        for datatype in DataType::ALL {
            let spec = |shape: &[i64]| TensorSpec { name: "x".to_owned(), datatype, shape: shape.to_vec() };
            let signature = Signature { inputs: vec![spec(&[-1]), spec(&[-1, -1, 2])], outputs: vec![] };
            let (first, second) = (item(&signature, 3, 1).unwrap(), item(&signature, 3, 2).unwrap());
            assert_eq!(first[1].shape, [1, 3, 2]);
            assert_eq!(Some(&first), item(&signature, 3, 1).as_ref());
            for (first, second) in first.iter().zip(&second) {
                assert_ne!(first, second, "{datatype}");
            }
        }
    }

    #[test]
    fn an_item_that_is_too_large_is_not_made() {
        let spec = TensorSpec { name: "x".to_owned(), datatype: DataType::Fp32, shape: vec![-1, 1 << 40] };
        assert_eq!(item(&Signature { inputs: vec![spec], outputs: vec![] }, 1, 1), None);
    }

    #[test]
    fn distances_are_relative_to_the_largest_number() {
        let tensor = |values: &[f32]| {
            let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            Tensor::new("y", DataType::Fp32, vec![values.len()], data).unwrap()
        };
        assert_eq!(distance(&tensor(&[1.0, f32::NAN]), &tensor(&[1.0, f32::NAN])), 0.0);
        assert_eq!(distance(&tensor(&[100.0, 0.0]), &tensor(&[100.0, 1.0])), 0.01);
        assert_eq!(distance(&tensor(&[1.0]), &tensor(&[f32::INFINITY])), f64::INFINITY);
        assert_eq!(distance(&tensor(&[1.0]), &tensor(&[1.0, 2.0])), f64::INFINITY);
    }
}
