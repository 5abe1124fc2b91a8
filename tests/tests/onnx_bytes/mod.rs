//! ONNX models written byte by byte, for what no exporter would write: weights in files that are not the
//! model's to read, and protobuf that two readers understand differently.
//!
//! All models take `x` FP32 [batch, 4] and give `y` = x W, W [4, 4] from 64 bytes of an external file. The
//! unit matrix as `x` thus answers with the file's own bytes.

/// Where in the model the tag of a field is written in the five bytes of which protobuf drops the highest
/// bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disguise {
    /// Nowhere.
    None,
    /// The field of the graph in the model.
    Graph,
    /// The field of the initializer in the graph.
    Initializer,
    /// The field of the external data in the initializer.
    ExternalData,
}

/// Weights as an initializer of the graph.
pub(crate) fn with_initializer(location: &[u8], disguise: Disguise) -> Vec<u8> {
    let external = external_data(location, disguise == Disguise::ExternalData);
    let initializer = field(5, &tensor(b"weights", &external), disguise == Disguise::Initializer);
    let graph = [plain(1, &product(b"weights", b"y")), initializer, signature()].concat();
    model(&graph, disguise == Disguise::Graph)
}

/// Weights as the value of a `Constant` node.
pub(crate) fn with_constant(location: &[u8]) -> Vec<u8> {
    let value =
        [plain(1, b"value"), plain(5, &tensor(b"weights", &external_data(location, false))), number(20, 4)];
    let constant = [plain(2, b"weights"), plain(4, b"Constant"), plain(5, &value.concat())].concat();
    model(&[plain(1, &constant), plain(1, &product(b"weights", b"y")), signature()].concat(), false)
}

/// Weights as initializers of both branches of an `If`; one more input, `c` BOOL [].
pub(crate) fn with_subgraph(location: &[u8]) -> Vec<u8> {
    let branch = |name: &[u8], suffix: &[u8], kind: &[u8]| {
        let (weights, output) = ([b"w", suffix].concat(), [b"o", suffix].concat());
        let graph = [
            plain(1, &product(&weights, &output)),
            plain(2, kind),
            plain(5, &tensor(&weights, &external_data(location, false))),
            plain(12, &matrix(&output)),
        ];
        plain(5, &[plain(1, name), plain(6, &graph.concat()), number(20, 5)].concat())
    };
    let node = [
        plain(1, b"c"),
        plain(2, b"y"),
        plain(4, b"If"),
        branch(b"then_branch", b"1", b"then"),
        branch(b"else_branch", b"2", b"else"),
    ];
    let condition = [plain(1, b"c"), plain(2, &plain(1, &[number(1, 9), plain(2, b"")].concat()))].concat();
    model(&[plain(1, &node.concat()), signature(), plain(11, &condition)].concat(), false)
}

fn model(graph: &[u8], disguised: bool) -> Vec<u8> {
    [number(1, 8), plain(8, &number(2, 17)), field(7, graph, disguised)].concat()
}

fn signature() -> Vec<u8> {
    [plain(2, b"graph"), plain(11, &matrix(b"x")), plain(12, &matrix(b"y"))].concat()
}

/// A value of FP32 [batch, 4].
fn matrix(name: &[u8]) -> Vec<u8> {
    let shape = [plain(1, &plain(2, b"batch")), plain(1, &number(1, 4))].concat();
    let tensor = [number(1, 1), plain(2, &shape)].concat();
    [plain(1, name), plain(2, &plain(1, &tensor))].concat()
}

fn product(weights: &[u8], output: &[u8]) -> Vec<u8> {
    [plain(1, b"x"), plain(1, weights), plain(2, output), plain(4, b"MatMul")].concat()
}

/// FP32 [4, 4] whose bytes are elsewhere.
fn tensor(name: &[u8], external: &[u8]) -> Vec<u8> {
    [number(1, 4), number(1, 4), number(2, 1), plain(8, name), external.to_vec(), number(14, 1)].concat()
}

fn external_data(location: &[u8], disguised: bool) -> Vec<u8> {
    [(b"location".as_slice(), location), (b"offset", b"0"), (b"length", b"64")]
        .into_iter()
        .flat_map(|(key, value)| field(13, &[plain(1, key), plain(2, value)].concat(), disguised))
        .collect()
}

fn plain(number: u64, content: &[u8]) -> Vec<u8> {
    field(number, content, false)
}

fn field(number: u64, content: &[u8], disguised: bool) -> Vec<u8> {
    let tag = number << 3 | 2;
    let tag = if disguised { varint(tag | 1 << 32) } else { varint(tag) };
    [tag, varint(content.len() as u64), content.to_vec()].concat()
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
