//! A model's large weights, taken out of its file.
//!
//! Owns the rewriting of the model's protobuf (field numbers: onnx.proto3 of ONNX 1.19): each large initializer of
//! the main graph says afterwards where in a second file its elements lie. ONNX Runtime copies what is inside a
//! model, and uses where it lies what is outside: so several processes can share it. Whatever is out of the
//! ordinary stays as it is.

use super::external::{Fields, WalkError};

/// Initializers from this size on are taken out: smaller ones cost little, and most are shapes and axes.
const LEAST: usize = 16 << 10;
/// Where elements begin: as ONNX Runtime likes them, for every datatype.
const ALIGNMENT: usize = 64;

/// The field numbers that matter.
const GRAPH: u64 = 7;
const INITIALIZER: u64 = 5;
const RAW_DATA: u64 = 9;
const EXTERNAL_DATA: u64 = 13;
const DATA_LOCATION: u64 = 14;
const SEGMENT: u64 = 3;

/// A model in two pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apart {
    /// The model without its large weights.
    pub model: Vec<u8>,
    /// The weights.
    pub weights: Vec<u8>,
}

/// Takes a model apart; `name` is what the model calls the file of its weights afterwards. `None` if there is
/// nothing large in it.
///
/// # Errors
/// The bytes are no model.
pub fn take_weights_apart(model: &[u8], name: &str) -> Result<Option<Apart>, String> {
    let mut apart = Apart { model: Vec::new(), weights: Vec::new() };
    let rewritten = rewrite(model, GRAPH, &mut apart.weights, &|graph, weights| {
        rewrite(graph, INITIALIZER, weights, &|tensor, weights| move_elements(tensor, name, weights))
    });
    apart.model = rewritten.map_err(|error| error.to_string())?;
    Ok((!apart.weights.is_empty()).then_some(apart))
}

type Change<'a> = &'a dyn Fn(&[u8], &mut Vec<u8>) -> Result<Vec<u8>, WalkError>;

/// A message with the content of each field `number` changed.
fn rewrite(
    message: &[u8],
    number: u64,
    weights: &mut Vec<u8>,
    change: Change<'_>,
) -> Result<Vec<u8>, WalkError> {
    let (mut fields, mut rewritten) = (Fields::of(message), Vec::with_capacity(1024));
    while let Some((field, whole)) = fields.next_whole()? {
        match field {
            (found, Some(content)) if found == number => {
                let content = change(content, weights)?;
                push_field(&mut rewritten, number, &content);
            }
            _ => rewritten.extend_from_slice(whole),
        }
    }
    Ok(rewritten)
}

/// A tensor whose elements have been moved to the weights, if they are large and lie where they usually do.
fn move_elements(tensor: &[u8], name: &str, weights: &mut Vec<u8>) -> Result<Vec<u8>, WalkError> {
    let (mut fields, mut rest, mut elements) = (Fields::of(tensor), Vec::new(), None);
    let mut is_odd = false;
    while let Some(((number, content), whole)) = fields.next_whole()? {
        match (number, content) {
            (RAW_DATA, Some(content)) => is_odd |= elements.replace(content).is_some(),
            (RAW_DATA | EXTERNAL_DATA | DATA_LOCATION | SEGMENT, _) => is_odd = true,
            _ => rest.extend_from_slice(whole),
        }
    }
    let Some(elements) = elements.filter(|elements| elements.len() >= LEAST && !is_odd) else {
        return Ok(tensor.to_vec());
    };
    weights.resize(weights.len().next_multiple_of(ALIGNMENT), 0);
    let (offset, length) = (weights.len().to_string(), elements.len().to_string());
    weights.extend_from_slice(elements);
    for (key, value) in [("location", name), ("offset", &offset), ("length", &length)] {
        let mut entry = Vec::new();
        push_field(&mut entry, 1, key.as_bytes());
        push_field(&mut entry, 2, value.as_bytes());
        push_field(&mut rest, EXTERNAL_DATA, &entry);
    }
    push_varint(&mut rest, DATA_LOCATION << 3);
    push_varint(&mut rest, 1);
    Ok(rest)
}

fn push_field(to: &mut Vec<u8>, number: u64, content: &[u8]) {
    push_varint(to, number << 3 | 2);
    push_varint(to, content.len() as u64);
    to.extend_from_slice(content);
}

fn push_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::model::external_files;

    /// A model with one initializer of these bytes.
    fn model(elements: &[u8]) -> Vec<u8> {
        let (mut tensor, mut graph, mut model) = (Vec::new(), Vec::new(), Vec::new());
        push_field(&mut tensor, 8, b"name");
        push_field(&mut tensor, RAW_DATA, elements);
        push_field(&mut graph, 2, b"graph");
        push_field(&mut graph, INITIALIZER, &tensor);
        push_varint(&mut model, 1 << 3);
        push_varint(&mut model, 9);
        push_field(&mut model, GRAPH, &graph);
        model
    }

    #[test]
    fn large_weights_are_moved_and_small_ones_stay() {
        let elements: Vec<u8> = (0..LEAST).map(|index| index as u8).collect();
        let apart = take_weights_apart(&model(&elements), "w").unwrap().unwrap();
        assert_eq!(apart.weights, elements);
        assert!(apart.model.len() < 200);
        assert_eq!(external_files(&apart.model).unwrap().into_iter().collect::<Vec<_>>(), ["w"]);
        assert_eq!(take_weights_apart(&model(&elements[1..]), "w"), Ok(None));
        // What lies outside already is not touched.
        assert_eq!(take_weights_apart(&apart.model, "v"), Ok(None));
    }

    #[test]
    fn a_model_taken_apart_answers_as_it_did() {
        use crate::model::tensor::{DataType, Tensor};
        use crate::model::{ModelSession, ModelSource};

        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/digits/1/model.onnx");
        let Ok(whole) = std::fs::read(path) else {
            panic!("{path} is not there");
        };
        let apart = take_weights_apart(&whole, "w").unwrap().expect("it has large weights");
        let runtime = crate::scheduler::testing::runtime();
        let answer = |model: Vec<u8>, weights: Vec<u8>| {
            let weights = Bytes::from(weights);
            let source = ModelSource::new(model.into(), |_| Ok(weights.clone())).unwrap();
            let mut session = ModelSession::open(&runtime, &source).unwrap();
            let spec = session.signature().inputs[0].clone();
            let shape: Vec<usize> =
                spec.shape.iter().map(|&size| usize::try_from(size).unwrap_or(1)).collect();
            assert_eq!(spec.datatype, DataType::Fp32);
            let elements: usize = shape.iter().product();
            let data: Vec<u8> = (0..elements).flat_map(|index| (index as f32).sin().to_le_bytes()).collect();
            let input = Tensor::new(spec.name, spec.datatype, shape, data).unwrap();
            session.run(&[input], &[0]).unwrap().remove(0).data
        };
        assert_eq!(answer(whole, Vec::new()), answer(apart.model, apart.weights));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _any = take_weights_apart(&bytes, "w");
        }

        #[test]
        fn no_cut_makes_it_panic(cut in 0_usize..20_000) {
            let whole = model(&[7; LEAST]);
            let _any = take_weights_apart(&whole[..cut.min(whole.len())], "w");
        }
    }
}
