//! Which files a model keeps its weights in, beside its own.
//!
//! Owns the walk over the model's protobuf (field numbers: onnx.proto3 of ONNX 1.19) for tensors that
//! keep their elements in a file. ONNX Runtime would open such paths by itself, relative to the
//! process's own folder: so each is found here first, and read by the host from the version's folder.
//! Only initializers of the outermost graph may have such a file: for others ONNX Runtime does not take
//! bytes from its caller. It never opens anything.

use std::collections::BTreeSet;

use super::protobuf::{Content, CutShort, Fields};

/// Messages within messages: deeper than any real graph's subgraphs.
const DEPTH: usize = 96;

/// What a message is, which decides what its fields are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    Training,
    Sparse,
    Tensor,
    Entry,
}

/// The protobuf does not add up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WalkError {
    /// A length or a number runs past the end.
    #[error(transparent)]
    CutShort(#[from] CutShort),
    /// External data where the host cannot hand it in.
    #[error(
        "a tensor in a subgraph, a function or an attribute keeps its elements in '{0}'; only the \
         initializers of the main graph may; save the model with its weights inside"
    )]
    Misplaced(String),
    /// A location that is no text.
    #[error("the path of external data is not UTF-8")]
    NoText,
    /// Deeper than any real model.
    #[error("the model nests messages more than {DEPTH} deep")]
    TooDeep,
}

/// The locations of all external data, as the model writes them, sorted, each once.
///
/// # Errors
/// [`WalkError`].
pub(super) fn locations(model: &[u8]) -> Result<BTreeSet<String>, WalkError> {
    let mut found = BTreeSet::new();
    walk(Message::Model, model, 0, false, &mut found)?;
    Ok(found)
}

/// As [`locations`], for whoever has the bytes but opens no session.
///
/// # Errors
/// Why the bytes are no model, or not one that the host could serve.
pub fn external_files(model: &[u8]) -> Result<BTreeSet<String>, String> {
    locations(model).map_err(|error| error.to_string())
}

/// The message in a field, if there can be a tensor in it. A field that occurs twice is looked at
/// twice: protobuf merges them.
const fn child(message: Message, field: u64) -> Option<Message> {
    match (message, field) {
        (Message::Model, 7) => Some(Message::Graph),
        (Message::Model, 20) => Some(Message::Training),
        (Message::Model, 25) => Some(Message::Function),
        (Message::Training, 1 | 2) => Some(Message::Graph),
        (Message::Graph, 1) | (Message::Function, 7) => Some(Message::Node),
        (Message::Graph, 5) => Some(Message::Tensor),
        (Message::Graph, 15) => Some(Message::Sparse),
        (Message::Function, 11) | (Message::Node, 5) => Some(Message::Attribute),
        (Message::Attribute, 5 | 10) => Some(Message::Tensor),
        (Message::Attribute, 6 | 11) => Some(Message::Graph),
        (Message::Attribute, 22 | 23) => Some(Message::Sparse),
        (Message::Sparse, 1 | 2) => Some(Message::Tensor),
        (Message::Tensor, 13) => Some(Message::Entry),
        _ => None,
    }
}

/// The main graph's depth, below the model itself.
const MAIN_GRAPH: usize = 1;

/// `may` says whether this is, or is in, an initializer of the main graph.
fn walk(
    message: Message,
    bytes: &[u8],
    depth: usize,
    may: bool,
    found: &mut BTreeSet<String>,
) -> Result<(), WalkError> {
    if depth > DEPTH {
        return Err(WalkError::TooDeep);
    }
    let mut fields = Fields::new(bytes);
    let (mut key, mut value) = (None, None);
    while let Some((field, content)) = fields.next()? {
        let Content::Bytes(content) = content else {
            continue;
        };
        match (message, field) {
            (Message::Entry, 1) => key = Some(content),
            (Message::Entry, 2) => value = Some(content),
            _ => {
                if let Some(child) = child(message, field) {
                    let initializer =
                        message == Message::Graph && child == Message::Tensor && depth == MAIN_GRAPH;
                    walk(child, content, depth + 1, may || initializer, found)?;
                }
            }
        }
    }
    if key != Some(b"location".as_slice()) {
        return Ok(());
    }
    let location = std::str::from_utf8(value.unwrap_or_default()).map_err(|_| WalkError::NoText)?;
    if !may {
        return Err(WalkError::Misplaced(location.to_owned()));
    }
    found.insert(location.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        bytes.extend_from_slice(content);
        bytes
    }

    fn external(location: &str) -> Vec<u8> {
        let entry = [field(1, b"location"), field(2, location.as_bytes())].concat();
        field(13, &entry)
    }

    #[test]
    fn external_data_is_found_in_initializers_and_refused_in_subgraphs() {
        let initializer = field(5, &external("weights.bin"));
        let found: Vec<_> = locations(&field(7, &initializer)).unwrap().into_iter().collect();
        assert_eq!(found, ["weights.bin"]);

        let subgraph = field(6, &field(5, &external("../../etc/passwd")));
        let node = field(1, &field(5, &subgraph));
        let graph = field(7, &[initializer, node].concat());
        assert_eq!(locations(&graph), Err(WalkError::Misplaced("../../etc/passwd".to_owned())));
    }

    #[test]
    fn a_tag_that_readers_differ_on_is_refused() {
        let graph = field(7, &field(5, &external("weights.bin")));
        let mut disguised = vec![0xba, 0x80, 0x80, 0x80, 0x10];
        disguised.extend_from_slice(&graph[1..]);
        assert!(matches!(locations(&disguised), Err(WalkError::CutShort(_))));
        assert!(matches!(locations(&[2, 0]), Err(WalkError::CutShort(_))));
    }

    #[test]
    fn endless_nesting_is_refused() {
        let mut graph = Vec::new();
        let wrap = |number: u64, content: &[u8]| {
            let mut bytes = Vec::new();
            for mut value in [number << 3 | 2, content.len() as u64] {
                while value >= 0x80 {
                    bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
                    value >>= 7;
                }
                bytes.push(u8::try_from(value).unwrap());
            }
            bytes.extend_from_slice(content);
            bytes
        };
        for _ in 0..100 {
            graph = wrap(1, &wrap(5, &wrap(6, &graph)));
        }
        assert_eq!(locations(&wrap(7, &graph)), Err(WalkError::TooDeep));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _any = locations(&bytes);
        }
    }
}
