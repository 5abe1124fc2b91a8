//! How far two answers to the same request are apart.
//!
//! Owns the comparison: tensors element by element, JSON number by number, everything else byte by byte. It
//! judges nothing: what difference matters is the operator's tolerance.

use serde_json::Value;

use super::PredictOutput;
use crate::model::tensor::{DataType, Tensor};

/// Bytes of a JSON body that is still read; longer ones are compared byte by byte.
const READ_JSON: usize = 1 << 20;

/// What two answers have in common.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Difference {
    /// The same form; this is the largest distance of two numbers, relative to the first one's size where
    /// that is above 1.
    Distance(f64),
    /// They are not of the same form, or texts differ.
    Form(String),
}

/// Compares what a mirror answered with what the client got.
pub(super) fn compare(primary: &PredictOutput, mirrored: &PredictOutput) -> Difference {
    let outcome = match (primary, mirrored) {
        (PredictOutput::Tensors(primary), PredictOutput::Tensors(mirrored)) => tensors(primary, mirrored),
        (PredictOutput::Body(primary), PredictOutput::Body(mirrored)) => {
            if primary.content_type != mirrored.content_type {
                return Difference::Form(format!(
                    "content type '{}' instead of '{}'",
                    mirrored.content_type, primary.content_type
                ));
            }
            bodies(&primary.body, &mirrored.body)
        }
        _ => Err("a body instead of tensors, or tensors instead of a body".to_owned()),
    };
    outcome.map_or_else(Difference::Form, Difference::Distance)
}

fn tensors(primary: &[Tensor], mirrored: &[Tensor]) -> Result<f64, String> {
    if primary.len() != mirrored.len() {
        return Err(format!("{} outputs instead of {}", mirrored.len(), primary.len()));
    }
    let mut distance = 0.0_f64;
    for (left, right) in primary.iter().zip(mirrored) {
        if (&left.name, left.datatype, &left.shape) != (&right.name, right.datatype, &right.shape) {
            return Err(format!(
                "output '{}' {} {:?} instead of '{}' {} {:?}",
                right.name, right.datatype, right.shape, left.name, left.datatype, left.shape
            ));
        }
        distance = distance.max(elements(left, right)?);
    }
    Ok(distance)
}

fn elements(left: &Tensor, right: &Tensor) -> Result<f64, String> {
    if left.data == right.data {
        return Ok(0.0);
    }
    let (one, other) = (&left.data, &right.data);
    let distance = match left.datatype {
        DataType::Fp32 => numbers(one, other, |bytes| f64::from(f32::from_le_bytes(bytes))),
        DataType::Fp64 => numbers(one, other, f64::from_le_bytes),
        DataType::Fp16 => numbers(one, other, |bytes| half::f16::from_le_bytes(bytes).to_f64()),
        DataType::Bf16 => numbers(one, other, |bytes| half::bf16::from_le_bytes(bytes).to_f64()),
        DataType::Int8 => numbers(one, other, |bytes| f64::from(i8::from_le_bytes(bytes))),
        DataType::Int16 => numbers(one, other, |bytes| f64::from(i16::from_le_bytes(bytes))),
        DataType::Int32 => numbers(one, other, |bytes| f64::from(i32::from_le_bytes(bytes))),
        DataType::Int64 => numbers(one, other, |bytes| i64::from_le_bytes(bytes) as f64),
        DataType::Uint8 | DataType::Bool => numbers(one, other, |bytes| f64::from(u8::from_le_bytes(bytes))),
        DataType::Uint16 => numbers(one, other, |bytes| f64::from(u16::from_le_bytes(bytes))),
        DataType::Uint32 => numbers(one, other, |bytes| f64::from(u32::from_le_bytes(bytes))),
        DataType::Uint64 => numbers(one, other, |bytes| u64::from_le_bytes(bytes) as f64),
        DataType::Bytes => return Err(format!("the texts of output '{}' differ", left.name)),
    };
    Ok(distance)
}

fn numbers<const WIDTH: usize>(left: &[u8], right: &[u8], read: impl Fn([u8; WIDTH]) -> f64) -> f64 {
    let (left, _) = left.as_chunks::<WIDTH>();
    let (right, _) = right.as_chunks::<WIDTH>();
    let distances = left.iter().zip(right).map(|(&left, &right)| apart(read(left), read(right)));
    distances.fold(0.0, f64::max)
}

/// The distance of two numbers, relative to the first where that is above 1. Not a number is as far from a
/// number as can be.
fn apart(left: f64, right: f64) -> f64 {
    if left == right || (left.is_nan() && right.is_nan()) {
        return 0.0;
    }
    let distance = (left - right).abs() / left.abs().max(1.0);
    if distance.is_nan() { f64::INFINITY } else { distance }
}

fn bodies(left: &[u8], right: &[u8]) -> Result<f64, String> {
    if left == right {
        return Ok(0.0);
    }
    let differ = || Err("the bodies differ".to_owned());
    if left.len().max(right.len()) > READ_JSON {
        return differ();
    }
    match (serde_json::from_slice(left), serde_json::from_slice(right)) {
        (Ok(left), Ok(right)) => values(&left, &right),
        _ => differ(),
    }
}

fn values(left: &Value, right: &Value) -> Result<f64, String> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            let number = |number: &serde_json::Number| number.as_f64().unwrap_or(f64::NAN);
            Ok(apart(number(left), number(right)))
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            farthest(left.iter().zip(right))
        }
        (Value::Object(left), Value::Object(right)) if left.keys().eq(right.keys()) => {
            farthest(left.values().zip(right.values()))
        }
        _ if left == right => Ok(0.0),
        _ => Err("the bodies' JSON differs in more than numbers".to_owned()),
    }
}

fn farthest<'a>(mut pairs: impl Iterator<Item = (&'a Value, &'a Value)>) -> Result<f64, String> {
    pairs.try_fold(0.0_f64, |distance, (left, right)| Ok(distance.max(values(left, right)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Response;

    fn fp32(values: &[f32]) -> PredictOutput {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        PredictOutput::Tensors(vec![Tensor::new("y", DataType::Fp32, vec![values.len()], data).unwrap()])
    }

    fn json(text: &str) -> PredictOutput {
        PredictOutput::Body(Response {
            content_type: "application/json".to_owned(),
            body: text.as_bytes().to_vec().into(),
            parameters: Vec::new(),
        })
    }

    #[test]
    fn tensors_are_compared_by_number() {
        assert_eq!(compare(&fp32(&[1.0, f32::NAN]), &fp32(&[1.0, f32::NAN])), Difference::Distance(0.0));
        assert_eq!(compare(&fp32(&[100.0]), &fp32(&[101.0])), Difference::Distance(0.01));
        assert_eq!(compare(&fp32(&[0.5]), &fp32(&[0.25])), Difference::Distance(0.25));
        assert_eq!(compare(&fp32(&[1.0]), &fp32(&[f32::NAN])), Difference::Distance(f64::INFINITY));
        assert!(matches!(compare(&fp32(&[1.0]), &fp32(&[1.0, 2.0])), Difference::Form(_)));
    }

    #[test]
    fn json_is_compared_by_number_and_all_else_by_byte() {
        let (left, right) = (json(r#"{"a":[1,"x"],"b":2.0}"#), json(r#"{"b":2.5,"a":[1,"x"]}"#));
        assert_eq!(compare(&left, &right), Difference::Distance(0.25));
        for other in [r#"{"a":[1,"y"],"b":2.0}"#, r#"{"a":[1],"b":2.0}"#, r#"{"a":[1,"x"]}"#, "{", "[]", ""] {
            assert!(matches!(compare(&left, &json(other)), Difference::Form(_)), "{other}");
        }
        assert!(matches!(compare(&left, &fp32(&[1.0])), Difference::Form(_)));
    }
}
