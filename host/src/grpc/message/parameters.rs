//! The parameters of a request, of an input or of an output.
//!
//! Owns the reading of their maps, and how many there may be in one request.

use std::collections::BTreeMap;

use super::wire::{self, Fields, Value};
use crate::error::Error;
use crate::http::v2::codec::{ParameterValue, Parameters, shorten};

/// Parameters of one map; what comes later under a name counts, as in every protobuf map.
#[derive(Debug, Default)]
pub(super) struct Map(BTreeMap<String, ParameterValue>);

/// How many parameters there may yet be in the request.
#[derive(Debug)]
pub(super) struct Allowance {
    left: usize,
    most: usize,
}

impl Allowance {
    pub(super) const fn new(most: usize) -> Self {
        Self { left: most, most }
    }
}

impl Map {
    /// Reads one entry.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the parameter.
    pub(super) fn add(
        &mut self,
        value: Value<'_>,
        path: &str,
        allowance: &mut Allowance,
    ) -> Result<(), Error> {
        let most = allowance.most;
        allowance.left = allowance
            .left
            .checked_sub(1)
            .ok_or_else(|| Error::invalid(format!("{path}: more than {most} parameters in the request")))?;
        let mut fields = Fields::new(wire::bytes(value, &path)?, path);
        let (mut name, mut chosen) = ("", None);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => name = wire::text(value, &path)?,
                2 => chosen = Some(wire::bytes(value, &path)?),
                _ => {}
            }
        }
        let path = format!("{path}.{}", shorten(name));
        let value = read_value(chosen.unwrap_or_default(), &path)?;
        self.0.insert(name.to_owned(), value);
        Ok(())
    }

    /// Takes out a parameter.
    pub(super) fn remove(&mut self, name: &str) -> Option<ParameterValue> {
        self.0.remove(name)
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that is reserved.
    pub(super) fn finish(self, path: &str) -> Result<Parameters, Error> {
        if let Some(name) = self.0.keys().find(|name| name.starts_with("triton_")) {
            return Err(Error::invalid(format!(
                "{path}.{}: parameter names that start with triton_ are reserved",
                shorten(name)
            )));
        }
        Ok(self.0.into_iter().collect())
    }
}

fn read_value(message: &[u8], path: &str) -> Result<ParameterValue, Error> {
    let mut fields = Fields::new(message, path);
    let mut chosen = None;
    while let Some((number, value)) = fields.next()? {
        chosen = Some(match (number, value) {
            (1, Value::Varint(value)) => ParameterValue::Bool(value != 0),
            // Two's complement, as the protocol's int64 is.
            (2, Value::Varint(value)) => ParameterValue::Int(value.cast_signed()),
            (3, value) => ParameterValue::String(wire::text(value, &path)?.to_owned()),
            (4, Value::Fixed64(value)) => ParameterValue::Double(f64::from_le_bytes(value)),
            (5, Value::Varint(value)) => {
                i64::try_from(value).map_or(ParameterValue::Uint(value), ParameterValue::Int)
            }
            (1..=5, _) => return Err(wire::mistyped(&path)),
            _ => continue,
        });
    }
    match chosen {
        Some(ParameterValue::Double(value)) if !value.is_finite() => {
            Err(Error::invalid(format!("{path}: {value} is no value of a parameter")))
        }
        Some(value) => Ok(value),
        None => Err(Error::invalid(format!("{path}: the parameter has no value"))),
    }
}
