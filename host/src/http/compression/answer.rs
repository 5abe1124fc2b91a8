//! Answers that go compressed.
//!
//! Owns which are worth it: they are long enough, are not compressed by their nature, and become shorter. Long ones are
//! compressed off the network's threads.

use std::io::Write as _;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::{HeaderValue, Method, StatusCode, header};
use http_body::Body as _;

use super::{Coding, Wanted};

/// Which answers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerOptions {
    /// Those whose clients ask for it.
    pub enabled: bool,
    /// Bytes that one must have.
    pub min_size: usize,
}

/// Answers of this size on are compressed on a thread of their own.
const LARGE: usize = 32 << 10;
/// Tensors are tried out on so many bytes first.
const SAMPLE: usize = 8 << 10;
/// Fast settings: an answer is read once.
const DEFLATE_LEVEL: u32 = 3;
const ZSTD_LEVEL: i32 = 1;

/// The answer as the client wants it, compressed if that is worth it.
pub(in crate::http) async fn compressed(
    mut response: Response,
    method: &Method,
    wanted: Wanted,
    options: AnswerOptions,
) -> Response {
    // Caches keep answers to GET alone: of others nobody asks what they vary by.
    let matters = options.enabled && (wanted.0.is_some() || method == Method::GET);
    if !matters || !is_candidate(&response, method, options.min_size) {
        return response;
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let Some(coding) = wanted.0 else {
        return response;
    };
    let (mut head, body) = response.into_parts();
    let Ok(plain) = axum::body::to_bytes(body, usize::MAX).await else {
        head.headers.remove(header::CONTENT_LENGTH);
        head.status = StatusCode::INTERNAL_SERVER_ERROR;
        return Response::from_parts(head, Body::empty());
    };
    let is_text = head.headers.get(header::CONTENT_TYPE).is_some_and(is_text);
    match shortened(coding, plain.clone(), is_text).await {
        Some(short) => {
            head.headers.insert(header::CONTENT_ENCODING, coding.header());
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(short.len()));
            Response::from_parts(head, Body::from(short))
        }
        None => Response::from_parts(head, Body::from(plain)),
    }
}

/// An answer of known length that could be compressed at all.
fn is_candidate(response: &Response, method: &Method, min_size: usize) -> bool {
    let headers = response.headers();
    let declared = || headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    let length = response.body().size_hint().exact().or_else(declared);
    method != Method::HEAD
        && length.is_some_and(|length| length >= min_size as u64)
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::CONTENT_RANGE)
        && !headers.get(header::CONTENT_TYPE).is_some_and(is_compressed_by_nature)
}

fn is_text(media: &HeaderValue) -> bool {
    media.to_str().is_ok_and(|media| {
        media.starts_with("text/")
            || media.starts_with("application/json")
            || media.starts_with("application/openmetrics-text")
    })
}

fn is_compressed_by_nature(media: &HeaderValue) -> bool {
    let Ok(media) = media.to_str() else { return true };
    [
        "image/",
        "video/",
        "audio/",
        "application/zip",
        "application/gzip",
        "application/zstd",
        "application/grpc",
    ]
    .iter()
    .any(|kind| media.starts_with(kind))
        && !media.starts_with("image/svg")
}

async fn shortened(coding: Coding, plain: Bytes, is_text: bool) -> Option<Vec<u8>> {
    let is_short = plain.len() < LARGE;
    let work = move || {
        let sample = plain.get(..SAMPLE).filter(|_| !is_text);
        // Floats that look like noise become no shorter: a tenth has to come of it.
        if sample
            .is_some_and(|sample| compress(coding, sample).is_none_or(|short| short.len() * 10 > SAMPLE * 9))
        {
            return None;
        }
        compress(coding, &plain).filter(|short| short.len() < plain.len())
    };
    if is_short { work() } else { tokio::task::spawn_blocking(work).await.ok().flatten() }
}

fn compress(coding: Coding, plain: &[u8]) -> Option<Vec<u8>> {
    let out = Vec::with_capacity(plain.len() / 4 + 64);
    let level = Compression::new(DEFLATE_LEVEL);
    match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(out, level);
            encoder.write_all(plain).ok()?;
            encoder.finish().ok()
        }
        Coding::Deflate => {
            let mut encoder = ZlibEncoder::new(out, level);
            encoder.write_all(plain).ok()?;
            encoder.finish().ok()
        }
        Coding::Zstd => zstd::bulk::compress(plain, ZSTD_LEVEL).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::compression::expand_for_tests;

    const OPTIONS: AnswerOptions = AnswerOptions { enabled: true, min_size: 1024 };

    fn answer(media: &'static str, body: Vec<u8>) -> Response {
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        response
    }

    async fn sent(response: Response, method: &Method, coding: Option<Coding>) -> (http::HeaderMap, Bytes) {
        let (head, body) = compressed(response, method, Wanted(coding), OPTIONS).await.into_parts();
        (head.headers, axum::body::to_bytes(body, usize::MAX).await.unwrap())
    }

    #[tokio::test]
    async fn long_answers_become_short_in_each_coding() {
        let text: Vec<u8> = b"{\"label\":\"espresso\"}".repeat(5000);
        for coding in Coding::ALL {
            let (headers, body) =
                sent(answer("application/json", text.clone()), &Method::POST, Some(coding)).await;
            assert_eq!(headers[header::CONTENT_ENCODING], coding.as_str());
            assert_eq!(headers[header::VARY], "accept-encoding");
            assert_eq!(headers[header::CONTENT_LENGTH], body.len().to_string());
            assert!(body.len() < text.len() / 10);
            assert_eq!(expand_for_tests(coding, &body), text);
        }
    }

    #[tokio::test]
    async fn what_is_not_worth_it_goes_as_it_is() {
        let noise: Vec<u8> = (0..40_000_u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(7).wrapping_mul(n | 1).to_le_bytes())
            .collect();
        let zip = Some(Coding::Gzip);
        for (response, method, coding) in [
            (answer("application/json", vec![b' '; 1023]), Method::POST, zip),
            (answer("application/json", vec![b' '; 4096]), Method::POST, None),
            (answer("application/json", vec![b' '; 4096]), Method::HEAD, zip),
            (answer("image/png", vec![b' '; 4096]), Method::POST, zip),
            (answer("application/octet-stream", noise), Method::POST, zip),
        ] {
            let (headers, _) = sent(response, &method, coding).await;
            assert!(!headers.contains_key(header::CONTENT_ENCODING));
        }
        let (headers, _) =
            sent(answer("application/octet-stream", vec![0; 100_000]), &Method::POST, zip).await;
        assert_eq!(headers[header::CONTENT_ENCODING], "gzip");
        let (headers, _) = sent(answer("application/json", vec![b' '; 4096]), &Method::GET, None).await;
        assert_eq!(headers[header::VARY], "accept-encoding");
    }
}
