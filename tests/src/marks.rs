//! Models and plugins whose answers tell who made them.
//!
//! Owns the numbers that a generation carries: one in the model's weights, one in the plugin's data. A test
//! gives every content numbers of its own, and so knows of each answer which contents it came from. It
//! never asks a host.

use std::fs;

use serde_json::json;

use crate::client::Answer;
use crate::components;
use crate::paths::root;

/// What the model `tiny` makes of sixteen ones in its first column: the sum of i + 1 over 16 rows, over 64.
const COLUMN: f64 = 136.0 / 64.0;

/// The numbers of a model and of a plugin that serve together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Marks {
    /// The model's number.
    pub model: u32,
    /// The plugin's number.
    pub plugin: u32,
}

/// The fixture `tiny` with all weights multiplied, so that every answer tells which model it came from.
///
/// # Panics
/// If the fixture is another one.
pub fn tiny(factor: f32) -> Vec<u8> {
    let path = root().join("tests/fixtures/models/tiny/1/model.onnx");
    let mut bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    // W[0, 0] and W[0, 1]: what the 256 bytes of weights begin with.
    let start = [(1.0_f32 / 64.0).to_le_bytes(), (2.0_f32 / 64.0).to_le_bytes()].concat();
    let at = bytes.windows(8).position(|window| window == start).expect("the weights are in the file");
    for weight in bytes[at..at + 256].chunks_exact_mut(4) {
        let value = f32::from_le_bytes(weight.try_into().unwrap());
        weight.copy_from_slice(&(value * factor).to_le_bytes());
    }
    bytes
}

/// Makes of the fixture `marked` a plugin with this number, below 10,000. It goes with `tiny`.
#[derive(Clone, Debug)]
pub struct Plugins {
    bytes: Vec<u8>,
    at: usize,
}

impl Default for Plugins {
    fn default() -> Self {
        Self::new()
    }
}

impl Plugins {
    /// Builds the fixture once.
    ///
    /// # Panics
    /// If it has no number.
    pub fn new() -> Self {
        let bytes = components::build("marked");
        // The data segment: address 2048, and four bytes.
        let segment = b"\x41\x80\x10\x0b\x040000";
        let at = bytes.windows(segment.len()).position(|window| window == segment);
        Self { bytes, at: at.expect("`marked` has a number") + 5 }
    }

    /// The component of that number.
    pub fn marked(&self, number: u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[self.at..self.at + 4].copy_from_slice(format!("{:04}", number % 10_000).as_bytes());
        bytes
    }
}

/// The body of a v2 request that makes `tiny` tell its number.
pub fn infer_body() -> Vec<u8> {
    let ones = json!({"name": "x", "datatype": "FP32", "shape": [1, 16], "data": vec![1; 16]});
    json!({"inputs": [ones]}).to_string().into_bytes()
}

/// The factor of the model that made a v2 answer.
///
/// # Errors
/// The answer is not wholly of one model.
pub fn factor(answer: &Answer) -> Result<f64, String> {
    let json = answer.json();
    let data = json["outputs"][0]["data"].as_array();
    let values: Vec<f64> = data.into_iter().flatten().filter_map(serde_json::Value::as_f64).collect();
    of_values(&values)
}

/// The marks of an answer of `/predict`: what the plugin `marked` makes of the model's output.
///
/// # Errors
/// The answer is not wholly of one plugin and one model.
pub fn of_prediction(answer: &Answer) -> Result<Marks, String> {
    let mixed = || format!("no answer of one generation: {:?}", answer.text());
    let (digits, values) = answer.body.split_at_checked(8).ok_or_else(mixed)?;
    let (after, before) = digits.split_at(4);
    let number = |digits| std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
    let plugin = number(after).filter(|_| after == before).ok_or_else(mixed)?;
    let values = values.chunks_exact(4).map(|one| f32::from_le_bytes(one.try_into().unwrap()));
    let factor = of_values(&values.map(f64::from).collect::<Vec<_>>())?;
    Ok(Marks { model: whole(factor).ok_or_else(mixed)?, plugin })
}

/// The number that a factor is, if it is one.
pub fn whole(factor: f64) -> Option<u32> {
    (factor.fract() == 0.0 && (0.0..1e6).contains(&factor)).then_some(factor as u32)
}

/// All values are multiples of 1/64 below 2^24, so that they are exact.
fn of_values(values: &[f64]) -> Result<f64, String> {
    let factor = values.first().copied().unwrap_or_default() / COLUMN;
    let is_one = (1..=4).zip(values).all(|(column, value)| *value == factor * COLUMN * f64::from(column));
    if values.len() == 4 && is_one { Ok(factor) } else { Err(format!("no output of one model: {values:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &[u8]) -> Answer {
        Answer { status: 200, headers: http::HeaderMap::new(), body: body.to_vec() }
    }

    fn prediction(digits: &str, factor: f32) -> Vec<u8> {
        let values = (1..=4_u8).flat_map(|column| (f32::from(column) * 2.125 * factor).to_le_bytes());
        digits.bytes().chain(values).collect()
    }

    #[test]
    fn marks_are_read_and_mixtures_are_none() {
        let whole = answer(&prediction("00120012", 345.0));
        assert_eq!(of_prediction(&whole), Ok(Marks { model: 345, plugin: 12 }));
        assert!(of_prediction(&answer(&prediction("00120013", 345.0))).is_err());
        assert!(of_prediction(&answer(&prediction("00120012", 0.5))).is_err());
        assert!(of_prediction(&answer(b"0012")).is_err());
        let mut mixed = prediction("00120012", 345.0);
        mixed[20..24].copy_from_slice(&1.0_f32.to_le_bytes());
        assert!(of_prediction(&answer(&mixed)).is_err());
    }

    #[test]
    fn each_number_is_another_component_and_another_model() {
        let plugins = Plugins::new();
        assert_ne!(plugins.marked(1), plugins.marked(2));
        assert!(wasmparser::validate(&plugins.marked(9999)).is_ok());
        assert_ne!(tiny(1.0), tiny(2.0));
    }
}
