//! Bytes of a file to 8 bits RGB.
//!
//! Owns what becomes of transparency (dropped), gray (spread) and 16 bits (the upper eight stay, for
//! colour and gray alike; Pillow would clip 16-bit gray at 255, which is white for nearly all).

use image::{ColorType, RgbImage};

use crate::error::ImageError;
use crate::format::{self, Format, Opened};
use crate::options::DecodeOptions;

/// Pixels, three bytes each.
pub(crate) struct Decoded {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) rgb: Vec<u8>,
}

pub(crate) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, ImageError> {
    let format = format::sniff(bytes)?;
    format::guard_panic(format, || decode_as(format, bytes, options))
}

fn decode_as(format: Format, bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, ImageError> {
    let mut opened = Opened::new(format, bytes)?;
    let (width, height) = opened.decoder().dimensions();
    format::check_size(width, height, options.max_pixels)?;
    if format == Format::Jpeg && !format::jpeg_has_end(bytes) {
        return Err(ImageError::malformed("the JPEG is cut short: it has no end marker"));
    }
    let orientation = if options.apply_orientation { opened.decoder().orientation().ok() } else { None };
    let color = opened.decoder().color_type();
    let length = usize::try_from(opened.decoder().total_bytes())
        .map_err(|_| ImageError::too_large(format!("a picture of {width}x{height} does not fit memory")))?;
    let mut samples = vec![0; length];
    opened.read(&mut samples).map_err(|error| format::codec_error(format, error))?;
    let rgb = to_rgb(color, samples)?;
    let Some(orientation) = orientation else {
        return Ok(Decoded { width, height, rgb });
    };
    let upright = RgbImage::from_raw(width, height, rgb)
        .ok_or_else(|| ImageError::malformed(format!("a picture of {width}x{height} has too few bytes")))?;
    let mut upright = image::DynamicImage::ImageRgb8(upright);
    upright.apply_orientation(orientation);
    let (width, height) = (upright.width(), upright.height());
    Ok(Decoded { width, height, rgb: upright.into_rgb8().into_raw() })
}

fn to_rgb(color: ColorType, samples: Vec<u8>) -> Result<Vec<u8>, ImageError> {
    match color {
        ColorType::Rgb8 => Ok(samples),
        ColorType::Rgba8 => Ok(drop_alpha(samples)),
        ColorType::L8 => Ok(spread::<1>(&samples)),
        ColorType::La8 => Ok(spread::<2>(&samples)),
        ColorType::L16 => Ok(gray16_to_rgb::<2>(&samples)),
        ColorType::La16 => Ok(gray16_to_rgb::<4>(&samples)),
        ColorType::Rgb16 => Ok(upper_halves::<6>(&samples)),
        ColorType::Rgba16 => Ok(upper_halves::<8>(&samples)),
        other => Err(ImageError::unsupported(format!("pixels of kind {other:?} are not read"))),
    }
}

/// RGBA to RGB in place: the colour as stored, whatever the transparency.
fn drop_alpha(mut samples: Vec<u8>) -> Vec<u8> {
    let pixels = samples.len() / 4;
    for pixel in 1..pixels {
        samples.copy_within(pixel * 4..pixel * 4 + 3, pixel * 3);
    }
    samples.truncate(pixels * 3);
    samples
}

/// Gray in the first of `SIZE` bytes, to three equal ones.
fn spread<const SIZE: usize>(samples: &[u8]) -> Vec<u8> {
    let mut rgb = vec![0; samples.len() / SIZE * 3];
    for (gray, pixel) in samples.as_chunks::<SIZE>().0.iter().zip(rgb.as_chunks_mut::<3>().0) {
        *pixel = [gray[0]; 3];
    }
    rgb
}

/// The upper eight of 16 bits of gray, spread.
fn gray16_to_rgb<const SIZE: usize>(samples: &[u8]) -> Vec<u8> {
    let mut rgb = vec![0; samples.len() / SIZE * 3];
    for (gray, pixel) in samples.as_chunks::<SIZE>().0.iter().zip(rgb.as_chunks_mut::<3>().0) {
        *pixel = [(u16::from_ne_bytes([gray[0], gray[1]]) >> 8) as u8; 3];
    }
    rgb
}

/// The upper eight bits of three of 16 (and no fourth), as Pillow reads such files.
fn upper_halves<const SIZE: usize>(samples: &[u8]) -> Vec<u8> {
    let mut rgb = vec![0; samples.len() / SIZE * 3];
    for (wide, pixel) in samples.as_chunks::<SIZE>().0.iter().zip(rgb.as_chunks_mut::<3>().0) {
        for (channel, value) in pixel.iter_mut().enumerate() {
            *value = (u16::from_ne_bytes([wide[channel * 2], wide[channel * 2 + 1]]) >> 8) as u8;
        }
    }
    rgb
}
