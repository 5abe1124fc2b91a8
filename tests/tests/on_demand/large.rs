//! Models that need memory, written byte by byte: each says its own number.
//!
//! `y = x A M M B`: A is of ones, M [SIZE, SIZE] takes the mean, and B is of `number / SIZE`. Four ones thus become
//! four times the number. Its weights are large, and what it computes is small.

/// A power of two: every sum is exact.
const SIZE: u16 = 1024;

/// Bytes of the weights, nearly.
pub(crate) const BYTES: u64 = 2 * 4 * SIZE as u64 * SIZE as u64;

/// A model of this number, below 1000.
pub(crate) fn large(number: u16) -> Vec<u8> {
    let weights = |name: &[u8], (rows, columns): (u16, u16), value: f32| {
        let bytes = value.to_le_bytes().repeat(usize::from(rows) * usize::from(columns));
        let tensor = [
            varint_field(1, rows.into()),
            varint_field(1, columns.into()),
            varint_field(2, 1),
            field(8, name),
            field(9, &bytes),
        ];
        field(5, &tensor.concat())
    };
    let product = |left: &[u8], right: &[u8], output: &[u8]| {
        field(1, &[field(1, left), field(1, right), field(2, output), field(4, b"MatMul")].concat())
    };
    let mean = 1.0 / f32::from(SIZE);
    let graph = [
        product(b"x", b"a", b"h"),
        product(b"h", b"m", b"i"),
        product(b"i", b"n", b"j"),
        product(b"j", b"b", b"y"),
        field(2, b"graph"),
        weights(b"a", (4, SIZE), 1.0),
        weights(b"m", (SIZE, SIZE), mean),
        weights(b"n", (SIZE, SIZE), mean),
        weights(b"b", (SIZE, 4), f32::from(number) * mean),
        field(11, &rows_of_four(b"x")),
        field(12, &rows_of_four(b"y")),
    ];
    [varint_field(1, 8), field(8, &varint_field(2, 17)), field(7, &graph.concat())].concat()
}

/// The body of a request that makes one tell its number.
pub(crate) fn question() -> Vec<u8> {
    let ones = serde_json::json!({"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]});
    serde_json::json!({"inputs": [ones]}).to_string().into_bytes()
}

/// The number that an answer tells.
pub(crate) fn number(answer: &nuke_tests::Answer) -> Option<f64> {
    let json = answer.json();
    let data = json["outputs"][0]["data"].as_array()?;
    let values: Vec<f64> = data.iter().filter_map(serde_json::Value::as_f64).collect();
    let all_same = values.len() == 4 && values.iter().all(|value| *value == values[0]);
    all_same.then(|| values[0] / 4.0)
}

/// A value of FP32 [batch, 4].
fn rows_of_four(name: &[u8]) -> Vec<u8> {
    let shape = [field(1, &field(2, b"batch")), field(1, &varint_field(1, 4))].concat();
    let tensor = [varint_field(1, 1), field(2, &shape)].concat();
    [field(1, name), field(2, &field(1, &tensor))].concat()
}

fn field(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn varint_field(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
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
