//! Owns the guest fixture in Rust: the same little plugin as `../c/plugin.c` and `../js/plugin.js`, on the
//! generated bindings alone, so that all three see the contract as it is. For the model `digits`:
//! comma-separated numbers in, the likeliest digit out.

#[path = "../../../../plugin-sdk/src/bindings.rs"]
mod bindings;

use bindings::exports::nuke::plugin::{postprocessor, preprocessor};
use bindings::nuke::plugin::logging::{self, Level};
use bindings::nuke::plugin::types::{Datatype, ErrorCode, Payload, PluginError, Tensor};
use preprocessor::Preprocessed;

/// No number needs more bytes than this; a longer token is refused and shown cut to this length.
const TOKEN_LIMIT: usize = 40;
/// A count of values needs at most ten decimal digits.
const COUNT_LIMIT: usize = 10;

struct Digits;

bindings::export_plugin_world!(Digits);

impl preprocessor::Guest for Digits {
    fn preprocess(input: Payload) -> Result<Preprocessed, PluginError> {
        let tokens = input.body.split(|byte| *byte == b',').enumerate();
        let values =
            tokens.map(|(index, token)| parse(index, trim(token))).collect::<Result<Vec<f32>, _>>()?;
        let count = values.len().to_string();
        logging::log(Level::Info, "parsed", &[("values".to_owned(), count.clone())]);
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let shape = vec![1, values.len() as u32];
        let tensor = Tensor { name: "X".to_owned(), datatype: Datatype::Fp32, shape, data };
        Ok(Preprocessed { tensors: vec![tensor], context: count.into_bytes() })
    }
}

impl postprocessor::Guest for Digits {
    fn postprocess(
        outputs: Vec<Tensor>,
        context: Vec<u8>,
        _parameters: Vec<(String, String)>,
    ) -> Result<Payload, PluginError> {
        let fits = |tensor: &&Tensor| tensor.datatype == Datatype::Fp32 && tensor.data.len() >= 4;
        let output = outputs.iter().filter(fits).find(|tensor| tensor.name == "probabilities");
        let output = output.ok_or_else(|| internal("the model has no FP32 output 'probabilities'"))?;
        if context.is_empty() || context.len() > COUNT_LIMIT || !context.iter().all(u8::is_ascii_digit) {
            return Err(internal("the context is no count of values"));
        }
        let body = format!("{{\"digit\":{},\"values\":{}}}", argmax(&output.data), shown(&context));
        let content_type = "application/json".to_owned();
        Ok(Payload { content_type, body: body.into_bytes(), parameters: Vec::new() })
    }
}

fn internal(message: &str) -> PluginError {
    PluginError { code: ErrorCode::Internal, message: message.to_owned(), details: Vec::new() }
}

fn trim(token: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let Some(first) = token.iter().position(is_text) else { return &[] };
    let last = token.iter().rposition(is_text).unwrap_or(first);
    &token[first..=last]
}

/// By way of a double, so that all three languages round alike.
fn parse(index: usize, token: &[u8]) -> Result<f32, PluginError> {
    let text = shown(&token[..token.len().min(TOKEN_LIMIT)]);
    if token.len() <= TOKEN_LIMIT
        && is_number(token)
        && let Ok(value) = text.parse::<f64>()
    {
        return Ok(value as f32);
    }
    Err(PluginError {
        code: ErrorCode::InvalidInput,
        message: format!("value {index} is no number: '{text}'"),
        details: vec![("index".to_owned(), index.to_string())],
    })
}

/// Rust reads `inf` and `NaN` as numbers too; the other two languages would not agree.
fn is_number(token: &[u8]) -> bool {
    token.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
}

/// `?` stands for each byte that is not printable ASCII.
fn shown(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| if matches!(byte, 0x20..=0x7e) { char::from(*byte) } else { '?' }).collect()
}

fn argmax(data: &[u8]) -> usize {
    let values = data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let mut best = (0, f32::NAN);
    for (index, value) in values.enumerate() {
        if index == 0 || value > best.1 {
            best = (index, value);
        }
    }
    best.0
}
