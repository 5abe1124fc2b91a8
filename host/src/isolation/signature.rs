//! What a worker tells of its model: the inputs and outputs, as text.
//!
//! Owns the encoding, and that a host believes no more of it than what a model can have.

use serde::{Deserialize, Serialize};

use crate::model::tensor::DataType;
use crate::model::{Signature, TensorSpec};

/// Bytes of a signature, at most.
pub(super) const MOST: usize = 16 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    inputs: Vec<(String, String, Vec<i64>)>,
    outputs: Vec<(String, String, Vec<i64>)>,
}

/// Its text.
pub(super) fn encode(signature: &Signature) -> Vec<u8> {
    let specs = |specs: &[TensorSpec]| {
        let told = |spec: &TensorSpec| (spec.name.clone(), spec.datatype.to_string(), spec.shape.clone());
        specs.iter().map(told).collect()
    };
    let text = Text { inputs: specs(&signature.inputs), outputs: specs(&signature.outputs) };
    serde_json::to_vec(&text).unwrap_or_default()
}

/// The signature in a text.
///
/// # Errors
/// It is none.
pub(super) fn decode(text: &[u8]) -> Result<Signature, String> {
    let text: Text =
        serde_json::from_slice(text).map_err(|error| format!("the worker's signature: {error}"))?;
    let specs = |specs: Vec<(String, String, Vec<i64>)>| {
        let read = |(name, datatype, shape): (String, String, Vec<i64>)| {
            let datatype: DataType =
                datatype.parse().map_err(|error| format!("the worker's signature: {error}"))?;
            Ok(TensorSpec { name, datatype, shape })
        };
        specs.into_iter().map(read).collect::<Result<Vec<_>, String>>()
    };
    Ok(Signature { inputs: specs(text.inputs)?, outputs: specs(text.outputs)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_told_is_read(name in ".{0,20}", datatype in 0..14_usize, shape in any::<Vec<i64>>()) {
            let spec = TensorSpec { name, datatype: DataType::ALL[datatype], shape };
            let signature = Signature { inputs: vec![spec.clone(), spec.clone()], outputs: vec![spec] };
            let text = encode(&signature);
            prop_assert_eq!(decode(&text), Ok(signature));
            prop_assert!(decode(&text[..text.len() - 1]).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _any = decode(&bytes);
        }
    }
}
