//! A picture in memory, and how another size or part of it is made.

use crate::decode;
use crate::error::ImageError;
use crate::format::check_size;
use crate::geometry;
use crate::options::{DecodeOptions, Filter, TensorOptions};
use crate::resize;
use crate::tensor::{self, TensorData};

/// 8 bits RGB, row by row from the top, without padding. Never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
    max_result_pixels: u32,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Picture")
            .field("width", &self.width)
            .field("height", &self.height)
            .finish_non_exhaustive()
    }
}

impl Picture {
    /// Decodes JPEG, PNG or WebP, told apart by the bytes. Transparency is dropped (the colour stays
    /// as stored), gray is spread to three channels, of 16 bits the upper eight stay.
    ///
    /// # Errors
    /// `UnsupportedFormat`, `Malformed`, or `TooLarge` by the header's word, before anything is
    /// allocated for the pixels.
    pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Self, ImageError> {
        let decoded = decode::decode(bytes, options)?;
        Ok(Self {
            width: decoded.width,
            height: decoded.height,
            rgb: decoded.rgb,
            max_result_pixels: options.max_result_pixels,
        })
    }

    /// A picture of given pixels, three bytes each.
    ///
    /// # Errors
    /// `InvalidArgument` if there are not `3 * width * height` bytes or a side is 0, `TooLarge` as for
    /// [`DecodeOptions::default`].
    pub fn from_rgb(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self, ImageError> {
        let max_result_pixels = DecodeOptions::DEFAULT_MAX_PIXELS;
        check_target(width, height, max_result_pixels)?;
        let expected = byte_count(width, height);
        if rgb.len() != expected {
            return Err(ImageError::invalid(format!(
                "a picture of {width}x{height} takes {expected} bytes, got {}",
                rgb.len()
            )));
        }
        Ok(Self { width, height, rgb, max_result_pixels })
    }

    /// In pixels.
    pub const fn width(&self) -> u32 {
        self.width
    }

    /// In pixels.
    pub const fn height(&self) -> u32 {
        self.height
    }

    /// The pixels, three bytes each, row by row from the top.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// A copy scaled to exactly this size, as Pillow's `resize` makes it: the same for `Nearest`, else
    /// within 2 of 255, and equal for nearly all pixels.
    ///
    /// # Errors
    /// `InvalidArgument` if a side is 0, `TooLarge` if the result has more pixels than
    /// [`DecodeOptions::max_result_pixels`].
    pub fn resize(&self, width: u32, height: u32, filter: Filter) -> Result<Self, ImageError> {
        check_target(width, height, self.max_result_pixels)?;
        let rgb = resize::resize(&self.rgb, (self.width, self.height), (width, height), filter)?;
        Ok(self.derived(width, height, rgb))
    }

    /// A copy scaled so that its shorter side is `shorter`; the longer side is
    /// `floor(shorter * longer / shorter-before)`, as torchvision has it.
    ///
    /// # Errors
    /// As [`Picture::resize`].
    pub fn resize_shorter(&self, shorter: u32, filter: Filter) -> Result<Self, ImageError> {
        let (width, height) = geometry::shorter_side(self.width, self.height, shorter)?;
        self.resize(width, height, filter)
    }

    /// A copy of a part.
    ///
    /// # Errors
    /// `InvalidArgument` if a side is 0 or the part does not lie within the picture.
    pub fn crop(&self, x: u32, y: u32, width: u32, height: u32) -> Result<Self, ImageError> {
        let within = |start: u32, length: u32, all: u32| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= all)
        };
        if !within(x, width, self.width) || !within(y, height, self.height) {
            return Err(ImageError::invalid(format!(
                "a crop of {width}x{height} at {x},{y} is empty or not within the picture of {}x{}",
                self.width, self.height
            )));
        }
        let (left, row) = (x as usize * 3, self.width as usize * 3);
        let mut rgb = Vec::with_capacity(byte_count(width, height));
        for line in self.rgb.chunks_exact(row).skip(y as usize).take(height as usize) {
            rgb.extend_from_slice(&line[left..left + width as usize * 3]);
        }
        Ok(self.derived(width, height, rgb))
    }

    /// A copy of the middle: left is `round((width-before - width) / 2)` with ties to even, top
    /// likewise, as torchvision has it.
    ///
    /// # Errors
    /// As [`Picture::crop`].
    pub fn crop_center(&self, width: u32, height: u32) -> Result<Self, ImageError> {
        if width > self.width || height > self.height {
            return Err(ImageError::invalid(format!(
                "a middle of {width}x{height} is larger than the picture of {}x{}",
                self.width, self.height
            )));
        }
        let x = geometry::center_offset(self.width, width);
        let y = geometry::center_offset(self.height, height);
        self.crop(x, y, width, height)
    }

    /// The picture as a tensor.
    ///
    /// An element of `FP32` is `(pixel - mean) / std` in 32-bit arithmetic with two roundings, bit for
    /// bit what NumPy makes of `float32` arrays; `FP64` likewise in 64 bits. `FP16` and `BF16` are the
    /// `FP32` value, rounded to nearest even.
    ///
    /// # Errors
    /// `InvalidArgument` if `mean` or `std` has neither no value, one, nor one per channel; if a value
    /// is not finite or a `std` is 0; if they are given for `UINT8`; if a result is beyond the element
    /// type. `TooLarge` if the bytes would not fit memory.
    pub fn to_tensor(&self, options: &TensorOptions) -> Result<TensorData, ImageError> {
        tensor::to_tensor(self, options)
    }

    /// The picture as a PNG file, for tests and tools.
    pub fn to_png(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let encoder = image::codecs::png::PngEncoder::new(&mut file);
        let written = image::ImageEncoder::write_image(
            encoder,
            &self.rgb,
            self.width,
            self.height,
            image::ExtendedColorType::Rgb8,
        );
        // Writing to memory, with a length that the constructor has checked, does not fail.
        debug_assert!(written.is_ok(), "{written:?}");
        file
    }

    fn derived(&self, width: u32, height: u32, rgb: Vec<u8>) -> Self {
        Self { width, height, rgb, max_result_pixels: self.max_result_pixels }
    }
}

/// The bytes of a picture that [`check_size`] let pass, which fit a `usize` of 32 bits
/// only if its limit is below 2^32 / 3: hence saturating.
fn byte_count(width: u32, height: u32) -> usize {
    (width as usize).saturating_mul(height as usize).saturating_mul(3)
}

fn check_target(width: u32, height: u32, max_pixels: u32) -> Result<(), ImageError> {
    if width == 0 || height == 0 {
        return Err(ImageError::invalid(format!("a picture of {width}x{height} has no pixels")));
    }
    check_size(width, height, max_pixels)
}
