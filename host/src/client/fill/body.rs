//! A file as the body of a request.
//!
//! Owns the reading of files, within a bound, and what has to be known of a body to send it: its media type, and where
//! the JSON of an infer request with binary tensors ends.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::media;

/// The largest file that is read: 1 GiB. The host's own limit, `server.max_body`, is lower as a rule.
const LARGEST: u64 = 1 << 30;
/// Where the JSON of an infer request with binary tensors ends.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Reads a whole file.
///
/// # Errors
/// It cannot be read, or is too large, in words.
pub(super) fn read(path: &Path) -> Result<Bytes, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let too_large = || format!("it has over {LARGEST} bytes");
    if size > LARGEST {
        return Err(too_large());
    }
    let mut body = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    file.take(LARGEST + 1).read_to_end(&mut body).map_err(unreadable)?;
    if body.len() as u64 > LARGEST { Err(too_large()) } else { Ok(body.into()) }
}

/// Adds what predict is told of a body: its media type, unless that is there.
pub(super) fn describe(path: &Path, body: &[u8], headers: &mut HeaderMap) {
    if !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media::guess(Some(path), body)));
    }
}

/// Adds what infer is told of a body.
///
/// # Errors
/// It is no infer request, in words.
pub(super) fn describe_infer(body: &[u8], headers: &mut HeaderMap) -> Result<(), String> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Head>();
    let head = values.next().ok_or("it is empty; --infer expects bodies of infer requests")?;
    let head =
        head.map_err(|error| format!("it is no infer request, and --infer expects bodies of them: {error}"))?;
    let end = values.byte_offset();
    let has_tensors = head.inputs.iter().any(|input| input.parameters.binary_data_size.is_some());
    let media_type = if has_tensors { "application/octet-stream" } else { "application/json" };
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(media_type));
    if has_tensors {
        headers.insert(JSON_LENGTH, HeaderValue::from(end));
    }
    Ok(())
}

/// What tells the two forms apart. The host judges the rest.
#[derive(Deserialize)]
struct Head {
    inputs: Vec<Input>,
}

#[derive(Deserialize)]
struct Input {
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
struct Parameters {
    binary_data_size: Option<IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infer(body: &[u8]) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        describe_infer(body, &mut headers).map(|()| headers)
    }

    #[test]
    fn binary_tensors_follow_the_json_and_json_stands_alone() {
        let plain = infer(br#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}"#).unwrap();
        assert_eq!(plain["content-type"], "application/json");
        assert!(!plain.contains_key(JSON_LENGTH));
        let json = br#" {"id":"}","inputs":[{"name":"x","parameters":{"binary_data_size":4}}]}"#;
        for tail in [b"\x00\x01{\xff", b"    ", b"{}{}"] {
            let binary = infer(&[json.as_slice(), tail].concat()).unwrap();
            assert_eq!(binary["content-type"], "application/octet-stream");
            assert_eq!(binary[JSON_LENGTH], json.len().to_string());
        }
    }

    #[test]
    fn what_is_no_infer_request_is_told_before_it_is_sent() {
        let deep = [b"[".repeat(100_000), b"{\"inputs\":".to_vec(), b"[".repeat(100_000)];
        let wrong = [
            b"".as_slice(),
            b"  ",
            b"\x89PNG",
            b"[]",
            b"{}",
            b"{\"inputs\": 1}",
            b"{\"inputs\":[{",
            &deep[0],
        ];
        for body in wrong.into_iter().chain([deep[1..].concat().as_slice()]) {
            assert!(infer(body).unwrap_err().contains("--infer"));
        }
    }

    #[test]
    fn files_are_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        File::create(&path).unwrap().set_len(LARGEST + 1).unwrap();
        assert!(read(&path).unwrap_err().contains("bytes"));
        assert!(read(&folder.path().join("none")).unwrap_err().contains("cannot be read"));
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(read(&path).unwrap(), "abc");
        let mut headers = HeaderMap::new();
        describe(&path, b"\x89PNG\r\n\x1a\n", &mut headers);
        assert_eq!(headers["content-type"], "image/png");
        describe(&path, b"x", &mut headers);
        assert_eq!(headers["content-type"], "image/png");
    }
}
