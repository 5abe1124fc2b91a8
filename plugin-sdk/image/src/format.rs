//! Tells formats apart by their first bytes, and opens the decoder of each.
//!
//! Never allocates by what a header claims.

use std::io::Cursor;

use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::error::ImageError as CodecError;
use image::{ImageDecoder, Limits};

use crate::error::ImageError;
use crate::options::MAX_SIDE;

/// What a PNG's side data (colour profile, text) may expand to.
const MAX_SIDE_DATA: u64 = 16 << 20;

/// A format of pictures that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Baseline and progressive.
    Jpeg,
    /// All depths and colour types; of an animation, the default picture.
    Png,
    /// Lossy and lossless; of an animation, the first frame.
    Webp,
}

impl Format {
    /// The format by its first bytes.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"\xff\xd8\xff") {
            return Some(Self::Jpeg);
        }
        if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            return Some(Self::Png);
        }
        let is_webp = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
        is_webp.then_some(Self::Webp)
    }

    /// `image/jpeg`, `image/png` or `image/webp`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Webp => "WebP",
        }
    }
}

/// What the first bytes of a picture say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Which format.
    pub format: Format,
    /// In pixels, as stored (before any EXIF orientation).
    pub width: u32,
    /// In pixels, as stored.
    pub height: u32,
}

/// Reads a picture's kind and size without decoding it. The size is what the header claims, however
/// large.
///
/// # Errors
/// `UnsupportedFormat` if the first bytes are those of no known format, `Malformed` if the header is
/// damaged or cut short.
pub fn inspect(bytes: &[u8]) -> Result<ImageInfo, ImageError> {
    let format = sniff(bytes)?;
    guard_panic(format, || {
        let (width, height) = Opened::new(format, bytes)?.decoder().dimensions();
        Ok(ImageInfo { format, width, height })
    })
}

pub(crate) fn sniff(bytes: &[u8]) -> Result<Format, ImageError> {
    Format::of(bytes).ok_or_else(|| {
        if bytes.is_empty() {
            return ImageError::malformed("the picture is empty: 0 bytes");
        }
        let start: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        ImageError::unsupported(format!(
            "neither JPEG, PNG nor WebP: {} bytes that start with {}",
            bytes.len(),
            start.join(" ")
        ))
    })
}

/// A picture whose header has been read.
pub(crate) enum Opened<'a> {
    Jpeg(Box<JpegDecoder<Cursor<&'a [u8]>>>),
    Png(Box<PngDecoder<Cursor<&'a [u8]>>>),
    Webp(Box<WebPDecoder<Cursor<&'a [u8]>>>),
}

impl<'a> Opened<'a> {
    pub(crate) fn new(format: Format, bytes: &'a [u8]) -> Result<Self, ImageError> {
        let input = Cursor::new(bytes);
        let opened = match format {
            Format::Jpeg => JpegDecoder::new(input).map(|decoder| Self::Jpeg(Box::new(decoder))),
            Format::Png => {
                let mut limits = Limits::no_limits();
                limits.max_alloc = Some(MAX_SIDE_DATA.saturating_add(bytes.len() as u64));
                PngDecoder::with_limits(input, limits).map(|decoder| Self::Png(Box::new(decoder)))
            }
            Format::Webp => WebPDecoder::new(input).map(|decoder| Self::Webp(Box::new(decoder))),
        };
        opened.map_err(|error| codec_error(format, error))
    }

    pub(crate) fn decoder(&mut self) -> &mut dyn ImageDecoder {
        match self {
            Self::Jpeg(decoder) => decoder.as_mut(),
            Self::Png(decoder) => decoder.as_mut(),
            Self::Webp(decoder) => decoder.as_mut(),
        }
    }

    pub(crate) fn read(self, pixels: &mut [u8]) -> Result<(), CodecError> {
        match self {
            Self::Jpeg(decoder) => decoder.read_image(pixels),
            Self::Png(decoder) => decoder.read_image(pixels),
            Self::Webp(decoder) => decoder.read_image(pixels),
        }
    }
}

/// Our words for a codec's failure.
pub(crate) fn codec_error(format: Format, error: CodecError) -> ImageError {
    let name = format.name();
    match error {
        CodecError::Unsupported(reason) => {
            ImageError::unsupported(format!("this kind of {name} is not read: {reason}"))
        }
        CodecError::Limits(reason) => {
            ImageError::too_large(format!("the {name} takes too much memory: {reason}"))
        }
        CodecError::IoError(reason) if reason.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::malformed(format!("the {name} is cut short"))
        }
        other => ImageError::malformed(format!("the {name} is damaged: {other}")),
    }
}

/// Runs a decoder, and takes a panic of it for what it is: bytes that no encoder writes.
/// (Where a panic aborts, as in WebAssembly, this does nothing.)
pub(crate) fn guard_panic<T>(
    format: Format,
    decode: impl FnOnce() -> Result<T, ImageError>,
) -> Result<T, ImageError> {
    // The closure only reads the input and owns what it makes, so nothing half-changed is seen.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode)).unwrap_or_else(|_| {
        Err(ImageError::malformed(format!("the {} is damaged: its decoder gave up", format.name())))
    })
}

/// Refuses a size that is empty or beyond `max_pixels`.
pub(crate) fn check_size(width: u32, height: u32, max_pixels: u32) -> Result<(), ImageError> {
    if width == 0 || height == 0 {
        return Err(ImageError::malformed(format!("the picture is empty: {width}x{height}")));
    }
    if width > MAX_SIDE || height > MAX_SIDE {
        return Err(ImageError::too_large(format!(
            "a picture of {width}x{height}: no side may be longer than {MAX_SIDE} pixels"
        )));
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels > u64::from(max_pixels) {
        return Err(ImageError::too_large(format!(
            "a picture of {width}x{height} has {pixels} pixels, at most {max_pixels} are allowed"
        )));
    }
    Ok(())
}

/// Whether a JPEG has its end marker. A decoder that fills in what is missing would otherwise answer
/// a cut file with a picture that is half gray.
pub(crate) fn jpeg_has_end(bytes: &[u8]) -> bool {
    // The marker may also occur before the scan (in a thumbnail), so the segments are walked first.
    let mut at = 2;
    while let Some(&[0xff, marker]) = bytes.get(at..at + 2).and_then(|pair| pair.first_chunk::<2>()) {
        match marker {
            0xda => return bytes[at..].windows(2).rev().any(|pair| pair == [0xff, 0xd9]),
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            0xd9 => return true,
            _ => {
                let Some(length) = bytes.get(at + 2..at + 4).and_then(|pair| pair.first_chunk::<2>()) else {
                    return false;
                };
                at += 2 + usize::from(u16::from_be_bytes(*length));
            }
        }
    }
    // Stray bytes between segments, which the decoder skips: look at all of the file.
    bytes.get(2..).is_some_and(|rest| rest.windows(2).rev().any(|pair| pair == [0xff, 0xd9]))
}
