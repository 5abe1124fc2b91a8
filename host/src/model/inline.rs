//! Rewriting of a model's protobuf: some initializers say afterwards that their elements lie elsewhere.
//!
//! Owns the field numbers that matter for it (onnx.proto3 of ONNX 1.19), and the copying of everything else as it
//! is. Which initializers, its caller says.

use super::protobuf::{self, Content, CutShort, Fields};

/// The field numbers that matter.
pub(super) const GRAPH: u64 = 7;
pub(super) const INITIALIZER: u64 = 5;
pub(super) const RAW_DATA: u64 = 9;
pub(super) const EXTERNAL_DATA: u64 = 13;
pub(super) const DATA_LOCATION: u64 = 14;

/// What becomes of the content of a field.
type Change<'a> = dyn FnMut(&[u8]) -> Result<Vec<u8>, CutShort> + 'a;

/// A message with the content of each field `number` changed.
pub(super) fn rewrite(message: &[u8], number: u64, change: &mut Change<'_>) -> Result<Vec<u8>, CutShort> {
    let (mut fields, mut rewritten) = (Fields::new(message), Vec::with_capacity(1024));
    while let Some((found, content)) = fields.next()? {
        match content {
            Content::Bytes(content) if found == number => {
                protobuf::write(&mut rewritten, number, &change(content)?);
            }
            _ => rewritten.extend_from_slice(fields.whole()),
        }
    }
    Ok(rewritten)
}

/// Completes a tensor whose elements lie elsewhere with where that is.
pub(super) fn say_elsewhere(tensor: &mut Vec<u8>, place: &[(&str, &str)]) {
    for (key, value) in place {
        let mut entry = Vec::new();
        protobuf::write(&mut entry, 1, key.as_bytes());
        protobuf::write(&mut entry, 2, value.as_bytes());
        protobuf::write(tensor, EXTERNAL_DATA, &entry);
    }
    protobuf::write_number(tensor, DATA_LOCATION << 3);
    // In a file.
    protobuf::write_number(tensor, 1);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_named_stays_as_it_is() {
        let (mut tensor, mut graph, mut model) = (Vec::new(), Vec::new(), Vec::new());
        protobuf::write(&mut tensor, RAW_DATA, b"elements");
        protobuf::write(&mut graph, 2, b"graph");
        protobuf::write(&mut graph, INITIALIZER, &tensor);
        protobuf::write_number(&mut model, 1 << 3);
        protobuf::write_number(&mut model, 9);
        protobuf::write(&mut model, GRAPH, &graph);
        let mut same = |content: &[u8]| Ok(content.to_vec());
        assert_eq!(rewrite(&model, GRAPH, &mut same), Ok(model.clone()));
        let without =
            rewrite(&model, GRAPH, &mut |graph| rewrite(graph, INITIALIZER, &mut |_| Ok(Vec::new())));
        assert_eq!(without.unwrap().len(), model.len() - tensor.len());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _any = rewrite(&bytes, GRAPH, &mut |content| Ok(content.to_vec()));
        }
    }
}
