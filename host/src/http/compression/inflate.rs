//! Bodies of requests that come compressed.
//!
//! Owns the bound on what comes out of one: it is held while inflating, over all members and frames, so that a bomb
//! costs as much as the largest plain body and no more. What is not small is inflated off the network's threads.

use std::io::{self, BufRead, Read};
use std::time::Instant;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use http::{HeaderMap, header};

use super::Coding;
use crate::error::{Error, ErrorCode, shown};
use crate::http::front::{MemoryBudget, Reservation};

/// The window that a zstd frame may ask for, as RFC 9659 has it for HTTP: 8 MiB.
const WINDOW_LOG: u32 = 23;
/// What inflates to this size at most is inflated on the spot.
const SMALL: usize = 64 << 10;

/// The coding of a request's body; `None` if it has none.
///
/// # Errors
/// `UnsupportedMediaType` for a coding that is not read, or several on top of each other.
pub(in crate::http) fn coding_of(headers: &HeaderMap) -> Result<Option<Coding>, Error> {
    let mut found = None;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        for name in value.to_str().unwrap_or("?").split(',').map(str::trim) {
            if name.is_empty() || name.eq_ignore_ascii_case("identity") {
                continue;
            }
            let coding = Coding::parse(name).filter(|_| found.is_none());
            found = Some(coding.ok_or_else(|| unsupported(name))?);
        }
    }
    Ok(found)
}

fn unsupported(name: &str) -> Error {
    let name = shown(name, 40);
    let message = format!(
        "content-encoding '{name}' is not read here; send gzip, deflate or zstd, one of them and once"
    );
    Error::new(ErrorCode::UnsupportedMediaType, message)
}

/// What a compressed body expands to.
///
/// # Errors
/// `PayloadTooLarge` as soon as it is over the limit, `InvalidArgument` if it is damaged or cut off,
/// `DeadlineExceeded`.
pub(in crate::http) async fn inflate(
    coding: Coding,
    body: Bytes,
    limit: usize,
    deadline: Instant,
    memory: &MemoryBudget,
) -> Result<Bytes, Error> {
    if body.len() <= SMALL {
        match expand(coding, &body, limit.min(SMALL), deadline, memory) {
            Err(error) if error.code == ErrorCode::PayloadTooLarge && limit > SMALL => {}
            outcome => return outcome,
        }
    }
    let memory = memory.clone();
    let expanding = tokio::task::spawn_blocking(move || expand(coding, &body, limit, deadline, &memory));
    expanding.await.map_err(|error| Error::internal(format!("inflating the body failed: {error}")))?
}

/// The same, at once: for tests and fuzzing, too.
pub(in crate::http) fn expand(
    coding: Coding,
    body: &[u8],
    limit: usize,
    deadline: Instant,
    memory: &MemoryBudget,
) -> Result<Bytes, Error> {
    let mut reserved = memory.nothing();
    let read = match coding {
        Coding::Gzip => {
            let members = MultiGzDecoder::new(Paced::new(body, deadline));
            read_bounded(members, limit, deadline, &mut reserved)
        }
        Coding::Deflate => read_bounded(Deflated::new(body), limit, deadline, &mut reserved),
        Coding::Zstd => {
            zstd_reader(body).and_then(|reader| read_bounded(reader, limit, deadline, &mut reserved))
        }
    };
    let bytes = read.map_err(|error| match error.kind() {
        io::ErrorKind::OutOfMemory => Error::new(ErrorCode::Unavailable, one_line(&error)),
        io::ErrorKind::TimedOut => {
            Error::new(ErrorCode::DeadlineExceeded, "the request's time ran out while its body was inflated")
        }
        _ => Error::invalid(format!("the body is no whole {}: {}", coding.as_str(), one_line(&error))),
    })?;
    if bytes.len() > limit {
        let message = format!(
            "the body inflates to more than the limit of {limit} bytes (server.max_body is the most)"
        );
        return Err(Error::new(ErrorCode::PayloadTooLarge, message));
    }
    Ok(reserved.hold(bytes.into()))
}

fn one_line(error: &io::Error) -> String {
    shown(&error.to_string(), 200)
}

fn zstd_reader(body: &[u8]) -> io::Result<impl Read> {
    let mut reader = zstd::stream::read::Decoder::with_buffer(body)?;
    reader.window_log_max(WINDOW_LOG)?;
    Ok(reader)
}

/// Reads to the end, or until there is one byte more than the limit.
fn read_bounded(
    reader: impl Read,
    limit: usize,
    deadline: Instant,
    reserved: &mut Reservation,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Counted { reader, deadline, reserved }.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Ends when the time is over, or the memory of all requests is used up.
struct Counted<'a, R> {
    reader: R,
    deadline: Instant,
    reserved: &'a mut Reservation,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() >= self.deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let read = self.reader.read(buffer)?;
        let grown = self.reserved.grow(read);
        grown.map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error.message.into_owned()))?;
        Ok(read)
    }
}

/// The bytes of a body, with a look at the clock after each [`SLICE`]: members without content give nothing, and are
/// all read within one call.
struct Paced<'a> {
    body: &'a [u8],
    at: usize,
    /// Up to where the clock allowed.
    until: usize,
    deadline: Instant,
}

/// Bytes between two looks at the clock.
const SLICE: usize = 256 << 10;

impl<'a> Paced<'a> {
    fn new(body: &'a [u8], deadline: Instant) -> Self {
        Self { body, at: 0, until: 0, deadline }
    }
}

impl Read for Paced<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Paced<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.until && self.at < self.body.len() {
            if Instant::now() >= self.deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.until = self.body.len().min(self.at + SLICE);
        }
        Ok(self.body.get(self.at..self.until).unwrap_or_default())
    }

    fn consume(&mut self, read: usize) {
        self.at = self.until.min(self.at + read);
    }
}

/// `deflate`, with or without zlib's frame. The library's own reader takes a body that was cut off for a whole one.
struct Deflated<'a> {
    state: Decompress,
    rest: &'a [u8],
    ended: bool,
}

impl<'a> Deflated<'a> {
    fn new(body: &'a [u8]) -> Self {
        Self { state: Decompress::new(has_zlib_head(body)), rest: body, ended: false }
    }
}

/// Method 8 (deflate), and a check that two bytes of raw deflate rarely pass.
fn has_zlib_head(body: &[u8]) -> bool {
    matches!(body, [method, flags, ..]
        if method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)).is_multiple_of(31))
}

impl Read for Deflated<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !buffer.is_empty() {
            let (in_before, out_before) = (self.state.total_in(), self.state.total_out());
            let status = self.state.decompress(self.rest, buffer, FlushDecompress::None)?;
            let taken = usize::try_from(self.state.total_in() - in_before).unwrap_or(usize::MAX);
            let given = usize::try_from(self.state.total_out() - out_before).unwrap_or(usize::MAX);
            self.rest = self.rest.get(taken..).unwrap_or_default();
            self.ended = status == Status::StreamEnd;
            if given > 0 {
                return Ok(given);
            }
            if taken == 0 && !self.ended {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was cut off"));
            }
        }
        if self.ended && !self.rest.is_empty() {
            return Err(io::Error::other("there are bytes behind its end"));
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    fn plenty() -> MemoryBudget {
        MemoryBudget::new(1 << 30)
    }

    #[test]
    fn what_it_expands_to_counts_in_the_memory_of_all_requests() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
        let body = encoder.finish().unwrap();
        let soon = || Instant::now() + Duration::from_secs(60);
        let memory = MemoryBudget::new(1 << 20);
        let whole = expand(Coding::Gzip, &body, 2 << 20, soon(), &memory).unwrap();
        assert_eq!((whole.len(), memory.used()), (1 << 20, 1 << 20));
        let refused = expand(Coding::Gzip, &body, 2 << 20, soon(), &memory).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Unavailable);
        drop(whole);
        assert_eq!(memory.used(), 0);
    }

    fn expanded(coding: Coding, body: &[u8], limit: usize) -> Result<Bytes, Error> {
        expand(coding, body, limit, Instant::now() + Duration::from_secs(60), &plenty())
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// The same in each form that is read.
    fn forms(data: &[u8]) -> Vec<(Coding, Vec<u8>)> {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(data).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(data).unwrap();
        vec![
            (Coding::Gzip, gzip(data)),
            (Coding::Deflate, zlib.finish().unwrap()),
            (Coding::Deflate, raw.finish().unwrap()),
            (Coding::Zstd, zstd::encode_all(data, 1).unwrap()),
        ]
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit_in_any_number_of_members() {
        let zeros = vec![0; 4 << 20];
        for (coding, body) in forms(&zeros) {
            assert!(body.len() < 64 << 10);
            let error = expanded(coding, &body, 1 << 20).unwrap_err();
            assert_eq!(error.code, ErrorCode::PayloadTooLarge, "{coding:?}");
            assert_eq!(expanded(coding, &body, 4 << 20).unwrap().len(), 4 << 20);
        }
        let member = gzip(&zeros[..1 << 20]);
        let many = member.repeat(64);
        assert_eq!(expanded(Coding::Gzip, &many, 8 << 20).unwrap_err().code, ErrorCode::PayloadTooLarge);
        let frames = zstd::encode_all(&zeros[..1 << 20], 1).unwrap().repeat(64);
        assert_eq!(expanded(Coding::Zstd, &frames, 8 << 20).unwrap_err().code, ErrorCode::PayloadTooLarge);
        // Members without content cost their own length.
        assert_eq!(expanded(Coding::Gzip, &gzip(b"").repeat(1000), 10).unwrap().len(), 0);
    }

    #[test]
    fn members_without_content_are_read_within_the_time() {
        let body = gzip(b"").repeat((48 << 20) / gzip(b"").len());
        let soon = Instant::now() + Duration::from_millis(100);
        let late = expand(Coding::Gzip, &body, 10, soon, &plenty()).unwrap_err();
        assert_eq!(late.code, ErrorCode::DeadlineExceeded);
    }

    #[test]
    fn a_zstd_frame_may_not_ask_for_a_large_window() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&[7; 100]).unwrap();
        let body = encoder.finish().unwrap();
        let error = expanded(Coding::Zstd, &body, 1 << 20).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert!(error.message.contains("zstd"), "{error}");
    }

    #[test]
    fn bytes_behind_the_end_and_time_that_is_over_are_told() {
        for (coding, mut body) in forms(b"some body") {
            let late = expand(coding, &body, 100, Instant::now(), &plenty()).unwrap_err();
            assert_eq!(late.code, ErrorCode::DeadlineExceeded);
            body.extend_from_slice(b"more");
            assert_eq!(expanded(coding, &body, 100).unwrap_err().code, ErrorCode::InvalidArgument);
        }
    }

    #[test]
    fn one_coding_by_its_name() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, value.parse().unwrap());
            }
            coding_of(&headers)
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["identity", " "]), Ok(None));
        assert_eq!(of(&["X-GZip"]), Ok(Some(Coding::Gzip)));
        assert_eq!(of(&["zstd, identity"]), Ok(Some(Coding::Zstd)));
        for refused in [&["br"][..], &["gzip, gzip"], &["gzip", "zstd"], &["gzip;q=1"]] {
            assert_eq!(of(refused).unwrap_err().code, ErrorCode::UnsupportedMediaType, "{refused:?}");
        }
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out_and_nothing_of_a_part(data in prop::collection::vec(any::<u8>(), 0..3000), cut in 0.0..1.0) {
            for (coding, body) in forms(&data) {
                prop_assert_eq!(&expanded(coding, &body, data.len()).unwrap()[..], &data[..]);
                let part = &body[..(body.len() as f64 * cut) as usize];
                // No bytes at all are no gzip, no deflate, and a zstd of nothing.
                if !(part.is_empty() && coding == Coding::Zstd) {
                    prop_assert!(expanded(coding, part, data.len()).is_err(), "{:?}", coding);
                }
            }
        }

        #[test]
        fn garbage_is_refused_or_within_the_limit(body in prop::collection::vec(any::<u8>(), 0..500)) {
            for coding in Coding::ALL {
                if let Ok(bytes) = expanded(coding, &body, 1000) {
                    prop_assert!(bytes.len() <= 1000);
                }
            }
        }
    }
}
