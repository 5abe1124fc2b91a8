//! What a client asks for, as the protocol says it.
//!
//! Owns the request's types and the meaning of its reserved parameters. It knows no model: whether
//! inputs, outputs and shapes fit one is for the caller to check.

use std::fmt;

use bytes::Bytes;

use crate::error::Error;
use crate::model::tensor::Tensor;

/// The value of a request's, an output's or a response's parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum ParameterValue {
    /// `true` or `false`.
    Bool(bool),
    /// A number without fraction and exponent.
    Int(i64),
    /// Such a number beyond the greatest `i64`; never a smaller one.
    Uint(u64),
    /// A number with a fraction or an exponent, never NaN or infinite.
    Double(f64),
    /// A text.
    String(String),
}

/// Names and values, each name once, in the client's order.
pub type Parameters = Vec<(String, ParameterValue)>;

/// An output that the client wants to see.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestedOutput {
    /// The model's name for it.
    pub name: String,
    /// Send it as bytes behind the JSON (its own `binary_data`), not within.
    pub binary: bool,
    /// Send the greatest so many elements as `value:index:label` texts instead of the tensor
    /// (the protocol's classification extension).
    pub classification: Option<u64>,
    /// All of the output's parameters, those above included.
    pub parameters: Parameters,
}

/// One inference request.
#[derive(Clone, Debug, PartialEq)]
pub struct InferRequest {
    /// To be sent back with the answer.
    pub id: Option<String>,
    /// All parameters of the request, reserved ones included.
    pub parameters: Parameters,
    /// The tensors, each name once, in the client's order.
    pub inputs: Vec<Tensor>,
    /// The outputs wanted, each name once; empty for all.
    pub outputs: Vec<RequestedOutput>,
    /// How to send outputs if none are listed (`binary_data_output`).
    pub default_binary: bool,
}

/// A body, told apart by its header.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A request in JSON, with or without binary tensors behind it.
    Request(InferRequest),
    /// The bytes of the model's only input and nothing else; see [`raw_request`](super::raw_request).
    Raw(Bytes),
}

/// How much one request may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Inputs, at most.
    pub inputs: usize,
    /// Listed outputs, at most.
    pub outputs: usize,
    /// Parameters of the request, its inputs and its outputs, at most, all together.
    pub parameters: usize,
    /// Bytes that all inputs with JSON data may decode to. JSON grows to four times its length at
    /// most; binary tensors stay part of the body and do not count.
    pub decoded_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { inputs: 1024, outputs: 1024, parameters: 8192, decoded_bytes: 256 << 20 }
    }
}

impl InferRequest {
    /// Whether the output is to be sent as bytes behind the JSON.
    ///
    /// If outputs are listed, only the listed one's own `binary_data` counts, and
    /// `binary_data_output` is not looked at: so do Triton's and KServe's servers, against the
    /// extension's text, and clients rely on the servers.
    pub fn wants_binary(&self, output: &str) -> bool {
        if self.outputs.is_empty() {
            return self.default_binary;
        }
        self.outputs.iter().any(|requested| requested.name == output && requested.binary)
    }

    /// How long the request may wait, in microseconds; `None` if it does not say, or says 0.
    ///
    /// # Errors
    /// `InvalidArgument` if `timeout` is no integer of 0 or more.
    pub fn timeout_us(&self) -> Result<Option<u64>, Error> {
        reserved_count(&self.parameters, "timeout")
    }

    /// The request's priority, 1 the highest; `None` if it does not say, or says 0.
    ///
    /// # Errors
    /// `InvalidArgument` if `priority` is no integer of 0 or more.
    pub fn priority(&self) -> Result<Option<u64>, Error> {
        reserved_count(&self.parameters, "priority")
    }
}

fn reserved_count(parameters: &Parameters, name: &str) -> Result<Option<u64>, Error> {
    Ok(parameter_count(parameters, name, "parameters")?.filter(|&value| value > 0))
}

/// The parameter of that name.
pub(crate) fn parameter<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a ParameterValue> {
    parameters.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value)
}

/// The parameter of that name, as an integer of 0 or more.
pub(crate) fn parameter_count(
    parameters: &Parameters,
    name: &str,
    path: impl fmt::Display,
) -> Result<Option<u64>, Error> {
    match parameter(parameters, name) {
        None => Ok(None),
        Some(ParameterValue::Uint(value)) => Ok(Some(*value)),
        Some(&ParameterValue::Int(value)) if value >= 0 => Ok(Some(value.unsigned_abs())),
        Some(value) => Err(Error::invalid(format!(
            "{path}.{name}: expected an integer of 0 or more, got {}",
            value.describe()
        ))),
    }
}

/// The parameter of that name, as true or false; false if there is none.
pub(super) fn parameter_flag(
    parameters: &Parameters,
    name: &str,
    path: impl fmt::Display,
) -> Result<bool, Error> {
    match parameter(parameters, name) {
        None => Ok(false),
        Some(ParameterValue::Bool(value)) => Ok(*value),
        Some(value) => {
            Err(Error::invalid(format!("{path}.{name}: expected true or false, got {}", value.describe())))
        }
    }
}

impl ParameterValue {
    fn describe(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Uint(value) => value.to_string(),
            Self::Double(value) => format!("{value:e}"),
            Self::String(value) => format!("the string '{}'", super::fault::shorten(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(parameters: Parameters) -> InferRequest {
        InferRequest { id: None, parameters, inputs: vec![], outputs: vec![], default_binary: true }
    }

    #[test]
    fn reserved_parameters_are_read_and_wrong_ones_named() {
        let timed = request(vec![
            ("timeout".into(), ParameterValue::Int(1000)),
            ("priority".into(), ParameterValue::Uint(u64::MAX)),
        ]);
        assert_eq!(timed.timeout_us(), Ok(Some(1000)));
        assert_eq!(timed.priority(), Ok(Some(u64::MAX)));
        assert_eq!(request(vec![("priority".into(), ParameterValue::Int(0))]).priority(), Ok(None));
        let negative = request(vec![("timeout".into(), ParameterValue::Int(-1))]).timeout_us().unwrap_err();
        assert_eq!(negative.message, "parameters.timeout: expected an integer of 0 or more, got -1");
        let text = request(vec![("priority".into(), ParameterValue::String("high".into()))]);
        assert_eq!(
            text.priority().unwrap_err().message,
            "parameters.priority: expected an integer of 0 or more, got the string 'high'"
        );
    }

    #[test]
    fn a_listed_output_is_binary_only_by_its_own_flag() {
        let output = |name: &str, binary| RequestedOutput {
            name: name.to_owned(),
            binary,
            classification: None,
            parameters: vec![],
        };
        let mut request = request(vec![]);
        assert!(request.wants_binary("y"));
        request.outputs = vec![output("y", false), output("z", true)];
        assert!(!request.wants_binary("y"));
        assert!(request.wants_binary("z"));
        assert!(!request.wants_binary("other"));
    }
}
