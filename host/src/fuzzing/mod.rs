//! Where fuzzers reach what reads bytes of strangers.
//!
//! Owns one function for each such reader: it takes any bytes, and panics only where a reader breaks what it promises. The
//! targets in `fuzz/` call them without end; the tests here call them in every build, with the same corpus and what
//! random changes make of it.
//!
//! A new reader of strangers' bytes gets a function here, a line in [`TARGETS`], a file in `fuzz/fuzz_targets` and a
//! folder in `fuzz/corpus`.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::cache::{Entry, Key, Scope, Seed, SeedParts, Subject, Value, Wish};
use crate::config::{BundleConfig, CacheCompression, ModelConfig, ServerConfig};
use crate::grpc::message::{self, WholeMessage};
use crate::http::fuzzing as front;
use crate::http::v2::codec::{self, rows};
use crate::model::tensor::DataType;

/// Bytes that a reader may make of its input.
const MOST: usize = 1 << 20;

/// A target's name and what it calls.
pub type Target = (&'static str, fn(&[u8]));

/// All targets, by the names of their files and folders.
pub const TARGETS: [Target; 9] = [
    ("v2_json", v2_json),
    ("v2_binary", v2_binary),
    ("v1_rows", v1_rows),
    ("headers", headers),
    ("codings", codings),
    ("yaml", yaml),
    ("tokens", tokens),
    ("grpc_message", grpc_message),
    ("cache_entry", cache_entry),
];

/// The JSON of a version 2 request. Tensors that come out hold what their shapes say.
pub fn v2_json(data: &[u8]) {
    let limits = codec::Limits { decoded_bytes: MOST, ..codec::Limits::default() };
    if let Ok(codec::Body::Request(request)) = codec::parse(&Bytes::copy_from_slice(data), None, &limits) {
        whole(&request.inputs);
        // Whatever they are, they do no harm.
        let _numbers = (request.timeout_us(), request.priority());
    }
}

/// JSON with binary tensors behind it, and the raw form; the first two bytes say how long the JSON is.
pub fn v2_binary(data: &[u8]) {
    let Some((length, body)) = data.split_first_chunk::<2>() else {
        return;
    };
    let (length, body) = (usize::from(u16::from_le_bytes(*length)), Bytes::copy_from_slice(body));
    let limits = codec::Limits { decoded_bytes: MOST, ..codec::Limits::default() };
    match codec::parse(&body, Some(length), &limits) {
        Ok(codec::Body::Request(request)) => whole(&request.inputs),
        Ok(codec::Body::Raw(raw)) => {
            for (datatype, shape) in [(DataType::Fp32, vec![1, -1]), (DataType::Bytes, vec![1])] {
                if let Ok(request) = codec::raw_request(raw.clone(), "x", datatype, &shape) {
                    whole(&request.inputs);
                }
            }
        }
        Err(_) => {}
    }
}

/// Rows and columns of version 1. What was read can be written, and is read as the same again.
pub fn v1_rows(data: &[u8]) {
    let models: [&[rows::Takes<'_>]; 3] = [
        &[("x", DataType::Int32, 8)],
        &[("t", DataType::Bytes, 8)],
        &[("a", DataType::Uint8, 8), ("t", DataType::Bytes, 8)],
    ];
    let deadline = Instant::now() + Duration::from_secs(3600);
    for inputs in models {
        let Ok(request) = rows::read(data, inputs, MOST, deadline) else { continue };
        whole(&request.inputs);
        assert_eq!(request.inputs.len(), inputs.len());
        let Ok(written) = rows::write(&request.inputs, rows::Form::Columns) else { continue };
        let again = [b"{\"inputs\":", &written["{\"outputs\":".len()..]].concat();
        let again = rows::read(&again, inputs, 4 * MOST, deadline).map(|again| again.inputs);
        assert_eq!(again.as_ref(), Ok(&request.inputs));
    }
}

/// The headers that the host reads itself: one in each line, `name: value`.
pub fn headers(data: &[u8]) {
    front::headers(data);
}

/// Compressed bodies: the first byte chooses the coding.
pub fn codings(data: &[u8]) {
    let Some((&coding, body)) = data.split_first() else {
        return;
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    if let Some(length) = front::expanded_length(coding, body, MOST, deadline) {
        assert!(length <= MOST, "{length} bytes came out");
    }
}

/// The three kinds of files. What is read is told as YAML that reads back.
pub fn yaml(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(loaded) = ServerConfig::from_text("config.yaml", &text) {
        let again = ServerConfig::from_text("config.yaml", &loaded.report.to_yaml());
        assert!(again.is_ok_and(|again| again.value == loaded.value), "what was told is something else");
    }
    let _model = ModelConfig::from_text("model.yaml", &text);
    let _bundle = BundleConfig::from_text("bundle.yaml", &text);
}

/// What a caller shows of itself, and what a server of keys answers: tokens, API keys, sets of keys.
pub fn tokens(data: &[u8]) {
    crate::auth::fuzzing::tokens(data);
}

/// A request of gRPC: its head, and all of it split into tensors.
pub fn grpc_message(data: &[u8]) {
    let message = WholeMessage(Bytes::copy_from_slice(data));
    let _head = message::head(&message).map(|head| head.described);
    let limits = codec::Limits { decoded_bytes: MOST, ..codec::Limits::default() };
    if let Ok(split) = message::split(&message, &limits) {
        whole(&split.request.inputs);
        let _numbers = (split.request.timeout_us(), split.request.priority());
    }
}

/// What Redis has for a remembered answer, under a checksum that fits, and `cache-control` of a request. What is read
/// is written and read as the same again.
pub fn cache_entry(data: &[u8]) {
    let _wish = Wish::read(data.split(|&byte| byte == b'\n'));
    let seed = Seed::new(&SeedParts::default());
    let key = Key::new(&seed, Scope { owner: None, epoch: 0 }, Subject::Run { inputs: &[], wanted: &[] });
    let Some(entry) = Entry::forged(&key, data, MOST) else {
        return;
    };
    if let Value::Tensors(tensors) = &entry.value {
        whole(tensors);
    }
    let again = Entry::decode(&key, &entry.encode(&key, CacheCompression::Zstd), 4 * MOST);
    assert_eq!(again.as_ref(), Some(&entry));
}

fn whole(tensors: &[crate::model::tensor::Tensor]) {
    for tensor in tensors {
        let elements = tensor.element_count().unwrap_or(usize::MAX);
        let length = tensor.datatype.width().map(|width| width * elements);
        assert!(length.is_none_or(|length| length == tensor.data.len()), "a tensor is not whole");
    }
}
