//! Pixels to the bytes of a tensor.
//!
//! A pixel has 256 values, so each channel's elements are computed once, exactly as the definition
//! says, into a table of 256; the loops over the picture only look up and store. That makes all
//! element types, halves included, equally fast, and needs no fused or approximate arithmetic.

use half::{bf16, f16};

use crate::error::ImageError;
use crate::options::{Channels, ElementType, Layout, TensorOptions};
use crate::picture::Picture;

/// The bytes of a tensor with its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorData {
    /// `[1, channels, height, width]` or `[1, height, width, channels]`.
    pub shape: [u32; 4],
    /// What each element is.
    pub element: ElementType,
    /// The elements, row-major, little-endian, without padding.
    pub data: Vec<u8>,
}

pub(crate) fn to_tensor(picture: &Picture, options: &TensorOptions) -> Result<TensorData, ImageError> {
    let normalise = Normalise::new(options)?;
    let data = match options.element {
        ElementType::Uint8 => write(picture, options, |pixel, _| Ok([pixel]))?,
        ElementType::Fp32 => {
            write(picture, options, |pixel, channel| normalise.fp32(pixel, channel).map(f32::to_le_bytes))?
        }
        ElementType::Fp64 => {
            write(picture, options, |pixel, channel| normalise.fp64(pixel, channel).map(f64::to_le_bytes))?
        }
        ElementType::Fp16 => write(picture, options, |pixel, channel| {
            let exact = normalise.fp32(pixel, channel)?;
            finite(f16::from_f32(exact), f16::is_finite, exact, "FP16").map(f16::to_le_bytes)
        })?,
        ElementType::Bf16 => write(picture, options, |pixel, channel| {
            let exact = normalise.fp32(pixel, channel)?;
            finite(bf16::from_f32(exact), bf16::is_finite, exact, "BF16").map(bf16::to_le_bytes)
        })?,
    };
    let (width, height) = (picture.width(), picture.height());
    let channels = options.channels.count() as u32;
    let shape = match options.layout {
        Layout::Nchw => [1, channels, height, width],
        Layout::Nhwc => [1, height, width, channels],
    };
    Ok(TensorData { shape, element: options.element, data })
}

fn finite<T: Copy>(value: T, is_finite: impl Fn(T) -> bool, exact: f32, name: &str) -> Result<T, ImageError> {
    if is_finite(value) {
        return Ok(value);
    }
    Err(ImageError::invalid(format!("mean and std make an element of {exact}, which {name} cannot hold")))
}

/// `mean` and `std`, checked, one of each per channel.
struct Normalise {
    mean: [f32; 3],
    std: [f32; 3],
}

impl Normalise {
    fn new(options: &TensorOptions) -> Result<Self, ImageError> {
        let channels = options.channels.count();
        if options.element == ElementType::Uint8 && !(options.mean.is_empty() && options.std.is_empty()) {
            return Err(ImageError::invalid(
                "UINT8 elements are the pixels themselves: mean and std must be empty",
            ));
        }
        let mean = per_channel("mean", &options.mean, channels, 0.0)?;
        let std = per_channel("std", &options.std, channels, 1.0)?;
        if std.contains(&0.0) {
            return Err(ImageError::invalid(format!("std must not be 0, got {:?}", options.std)));
        }
        Ok(Self { mean, std })
    }

    fn fp32(&self, pixel: u8, channel: usize) -> Result<f32, ImageError> {
        let (mean, std) = (self.mean[channel], self.std[channel]);
        let value = (f32::from(pixel) - mean) / std;
        finite(value, f32::is_finite, value, "FP32")
    }

    fn fp64(&self, pixel: u8, channel: usize) -> Result<f64, ImageError> {
        let (mean, std) = (f64::from(self.mean[channel]), f64::from(self.std[channel]));
        // Finite: the largest f32 over the smallest is far from the largest f64.
        Ok((f64::from(pixel) - mean) / std)
    }
}

fn per_channel(name: &str, values: &[f32], channels: usize, default: f32) -> Result<[f32; 3], ImageError> {
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(ImageError::invalid(format!("{name} must be finite, got {value}")));
    }
    match *values {
        [] => Ok([default; 3]),
        [all] => Ok([all; 3]),
        [first, second, third] if channels == 3 => Ok([first, second, third]),
        _ => Err(ImageError::invalid(format!(
            "{name} must have no value, one, or one for each of {channels} channels, got {}",
            values.len()
        ))),
    }
}

/// The 256 elements of one channel, by pixel value.
type Table<const SIZE: usize> = [[u8; SIZE]; 256];

/// The bytes of all elements, `SIZE` each, that `element` makes of a pixel's value and a channel.
fn write<const SIZE: usize>(
    picture: &Picture,
    options: &TensorOptions,
    element: impl Fn(u8, usize) -> Result<[u8; SIZE], ImageError>,
) -> Result<Vec<u8>, ImageError> {
    let channels = options.channels.count();
    let mut tables = [[[0; SIZE]; 256]; 3];
    for (channel, table) in tables.iter_mut().enumerate().take(channels) {
        for (pixel, entry) in (0..=u8::MAX).zip(table.iter_mut()) {
            *entry = element(pixel, channel)?;
        }
    }
    let pixels = picture.rgb().as_chunks::<3>().0;
    let elements = pixels.len().checked_mul(channels).and_then(|count| count.checked_mul(SIZE));
    let length = elements.ok_or_else(|| {
        ImageError::too_large(format!("a tensor of {} pixels does not fit memory", pixels.len()))
    })?;
    let mut data = vec![0; length];
    let elements = data.as_chunks_mut::<SIZE>().0;
    match (options.channels, options.layout) {
        (Channels::Gray, _) => write_gray(elements, pixels, &tables[0]),
        (Channels::Rgb, Layout::Nchw) => {
            write_planes(elements, pixels, &tables, |[red, green, blue]| [red, green, blue])
        }
        (Channels::Bgr, Layout::Nchw) => {
            write_planes(elements, pixels, &tables, |[red, green, blue]| [blue, green, red])
        }
        (Channels::Rgb, Layout::Nhwc) => {
            write_pixels(elements, pixels, &tables, |[red, green, blue]| [red, green, blue])
        }
        (Channels::Bgr, Layout::Nhwc) => {
            write_pixels(elements, pixels, &tables, |[red, green, blue]| [blue, green, red])
        }
    }
    Ok(data)
}

fn write_gray<const SIZE: usize>(elements: &mut [[u8; SIZE]], pixels: &[[u8; 3]], table: &Table<SIZE>) {
    for (element, pixel) in elements.iter_mut().zip(pixels) {
        *element = table[usize::from(luma(*pixel))];
    }
}

fn write_planes<const SIZE: usize>(
    elements: &mut [[u8; SIZE]],
    pixels: &[[u8; 3]],
    tables: &[Table<SIZE>; 3],
    order: impl Fn([u8; 3]) -> [u8; 3],
) {
    let (first, rest) = elements.split_at_mut(pixels.len());
    let (second, third) = rest.split_at_mut(pixels.len());
    for (((pixel, first), second), third) in pixels.iter().zip(first).zip(second).zip(third) {
        let values = order(*pixel).map(usize::from);
        *first = tables[0][values[0]];
        *second = tables[1][values[1]];
        *third = tables[2][values[2]];
    }
}

fn write_pixels<const SIZE: usize>(
    elements: &mut [[u8; SIZE]],
    pixels: &[[u8; 3]],
    tables: &[Table<SIZE>; 3],
    order: impl Fn([u8; 3]) -> [u8; 3],
) {
    for (pixel, element) in pixels.iter().zip(elements.as_chunks_mut::<3>().0) {
        let values = order(*pixel).map(usize::from);
        *element = [tables[0][values[0]], tables[1][values[1]], tables[2][values[2]]];
    }
}

/// ITU-R 601-2 with Pillow's rounding.
const fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let weighted = red as u32 * 19_595 + green as u32 * 38_470 + blue as u32 * 7_471;
    ((weighted + 0x8000) >> 16) as u8
}
