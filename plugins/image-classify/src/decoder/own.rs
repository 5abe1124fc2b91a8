//! The kernels carried along, with the host's words around them.

use nuke_image as kernels;
use nuke_plugin_sdk::image::{Channels, DecodeOptions, Error, ErrorKind, Filter, Layout, TensorOptions};
use nuke_plugin_sdk::{DataType, Tensor};

/// What a picture may have at most: decoding takes up to nine bytes per pixel, and the default limit of a
/// plugin's memory is 256 MiB.
const MAX_PIXELS: u32 = 24 << 20;

/// A decoded picture, 8 bits RGB, in this component's memory.
#[derive(Debug)]
pub struct Picture(kernels::Picture);

impl Picture {
    /// Decodes JPEG, PNG or WebP, told apart by the bytes.
    ///
    /// # Errors
    /// `UnsupportedFormat`, `Malformed` or `TooLarge`.
    pub fn decode(bytes: &[u8], options: DecodeOptions) -> Result<Self, Error> {
        let max_pixels = if options.max_pixels == 0 { MAX_PIXELS } else { options.max_pixels };
        let options = kernels::DecodeOptions {
            max_pixels,
            max_result_pixels: MAX_PIXELS,
            apply_orientation: options.apply_orientation,
        };
        kernels::Picture::decode(bytes, &options).map(Self).map_err(translate)
    }

    /// A copy scaled so that its shorter side is `shorter`.
    ///
    /// # Errors
    /// `InvalidArgument` or `TooLarge`.
    pub fn resize_shorter(&self, shorter: u32, filter: Filter) -> Result<Self, Error> {
        let filter = match filter {
            Filter::Nearest => kernels::Filter::Nearest,
            Filter::Bilinear => kernels::Filter::Bilinear,
            Filter::Bicubic => kernels::Filter::Bicubic,
            Filter::Lanczos3 => kernels::Filter::Lanczos3,
        };
        self.0.resize_shorter(shorter, filter).map(Self).map_err(translate)
    }

    /// A copy of the middle.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn crop_center(&self, width: u32, height: u32) -> Result<Self, Error> {
        self.0.crop_center(width, height).map(Self).map_err(translate)
    }

    /// The picture as a tensor.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn to_tensor(&self, options: &TensorOptions) -> Result<Tensor, Error> {
        let element = match options.datatype {
            DataType::Fp16 => kernels::ElementType::Fp16,
            DataType::Bf16 => kernels::ElementType::Bf16,
            DataType::Fp32 => kernels::ElementType::Fp32,
            DataType::Fp64 => kernels::ElementType::Fp64,
            DataType::Uint8 => kernels::ElementType::Uint8,
            other => {
                let message = format!("a picture has no tensor of {other}");
                return Err(Error { kind: ErrorKind::InvalidArgument, message });
            }
        };
        let layout = match options.layout {
            Layout::Nchw => kernels::Layout::Nchw,
            Layout::Nhwc => kernels::Layout::Nhwc,
        };
        let channels = match options.channels {
            Channels::Rgb => kernels::Channels::Rgb,
            Channels::Bgr => kernels::Channels::Bgr,
            Channels::Gray => kernels::Channels::Gray,
        };
        let (mean, std) = (options.mean.clone(), options.std.clone());
        let options_of_kernels = kernels::TensorOptions { element, layout, channels, mean, std };
        let made = self.0.to_tensor(&options_of_kernels).map_err(translate)?;
        Ok(Tensor {
            name: options.name.clone(),
            datatype: options.datatype,
            shape: made.shape.to_vec(),
            data: made.data,
        })
    }
}

fn translate(error: kernels::ImageError) -> Error {
    let kind = match error.kind {
        kernels::ErrorKind::UnsupportedFormat => ErrorKind::UnsupportedFormat,
        kernels::ErrorKind::Malformed => ErrorKind::Malformed,
        kernels::ErrorKind::TooLarge => ErrorKind::TooLarge,
        kernels::ErrorKind::InvalidArgument => ErrorKind::InvalidArgument,
    };
    Error { kind, message: error.message.into_owned() }
}
