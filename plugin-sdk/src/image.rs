//! The host's own decoders and SIMD kernels: capability `image`, to be declared in bundle.yaml.

use crate::datatype::DataType;
use crate::error::ErrorCode;
use crate::host::image as host;
use crate::tensor::Tensor;

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Neither JPEG, PNG nor WebP.
    UnsupportedFormat,
    /// The bytes are damaged or cut short.
    Malformed,
    /// More pixels than asked for or allowed (`plugins.pixels`).
    TooLarge,
    /// An argument makes no sense: an empty size, a crop outside the picture, a zero `std`.
    InvalidArgument,
}

/// A failure of this module. By `?` it becomes the plugin's: unsupported media type, invalid input, too
/// large, or internal, in the order of [`ErrorKind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Whose fault it is.
    pub kind: ErrorKind,
    /// What was expected and what came.
    pub message: String,
}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        let code = match error.kind {
            ErrorKind::UnsupportedFormat => ErrorCode::UnsupportedMediaType,
            ErrorKind::Malformed => ErrorCode::InvalidInput,
            ErrorKind::TooLarge => ErrorCode::TooLarge,
            ErrorKind::InvalidArgument => ErrorCode::Internal,
        };
        Self::new(code, error.message)
    }
}

/// What the first bytes of a picture say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// `image/jpeg`, `image/png` or `image/webp`.
    pub content_type: String,
    /// In pixels, as stored (before any EXIF orientation).
    pub width: u32,
    /// In pixels, as stored.
    pub height: u32,
}

/// How to decode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Refuse a picture of more pixels than this; 0 takes the host's limit, which is the most in any
    /// case.
    pub max_pixels: u32,
    /// Turn and mirror the picture as its EXIF data says.
    pub apply_orientation: bool,
}

/// How to compute a pixel of the new size. All but `Nearest` widen their support when shrinking (they
/// antialias), as Pillow does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// The closest source pixel.
    Nearest,
    /// Triangle.
    Bilinear,
    /// Catmull-Rom.
    Bicubic,
    /// Lanczos with three lobes.
    Lanczos3,
}

/// The order of a tensor's dimensions. The batch dimension is always there, and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Shape `[1, channels, height, width]`.
    Nchw,
    /// Shape `[1, height, width, channels]`.
    Nhwc,
}

/// Which channels, in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channels {
    /// Three: red, green, blue.
    Rgb,
    /// Three: blue, green, red.
    Bgr,
    /// One: luma by ITU-R 601-2.
    Gray,
}

/// How pixels (0 to 255) become elements: `(pixel - mean) / std`, by channel.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorOptions {
    /// The tensor's name: the model's input.
    pub name: String,
    /// `Fp16`, `Bf16`, `Fp32`, `Fp64` or `Uint8`.
    pub datatype: DataType,
    /// The order of the dimensions.
    pub layout: Layout,
    /// The channels and their order.
    pub channels: Channels,
    /// One value for all channels, or one for each in the tensor's order; empty for 0. Must be empty
    /// for `Uint8`.
    pub mean: Vec<f32>,
    /// As `mean`; empty for 1. Must be empty for `Uint8`.
    pub std: Vec<f32>,
}

impl TensorOptions {
    /// `FP32`, `[1, 3, height, width]`, red green blue, 0 to 255.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            datatype: DataType::Fp32,
            layout: Layout::Nchw,
            channels: Channels::Rgb,
            mean: Vec::new(),
            std: Vec::new(),
        }
    }
}

/// A decoded picture, 8 bits RGB, held by the host until dropped.
#[derive(Debug)]
pub struct Picture(host::Picture);

impl Picture {
    /// Decodes JPEG, PNG or WebP, told apart by the bytes.
    ///
    /// # Errors
    /// `UnsupportedFormat`, `Malformed` or `TooLarge`.
    pub fn decode(bytes: &[u8], options: DecodeOptions) -> Result<Self, Error> {
        host::decode(bytes, options).map(Self)
    }

    /// In pixels.
    pub fn width(&self) -> u32 {
        host::size(&self.0).0
    }

    /// In pixels.
    pub fn height(&self) -> u32 {
        host::size(&self.0).1
    }

    /// A copy scaled to exactly this size.
    ///
    /// # Errors
    /// `InvalidArgument` or `TooLarge`.
    pub fn resize(&self, width: u32, height: u32, filter: Filter) -> Result<Self, Error> {
        host::resize(&self.0, width, height, filter).map(Self)
    }

    /// A copy scaled so that its shorter side is `shorter`; the longer side is
    /// `floor(shorter * longer / shorter-before)`, as torchvision has it.
    ///
    /// # Errors
    /// `InvalidArgument` or `TooLarge`.
    pub fn resize_shorter(&self, shorter: u32, filter: Filter) -> Result<Self, Error> {
        host::resize_shorter(&self.0, shorter, filter).map(Self)
    }

    /// A copy of a part, which must lie within the picture.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn crop(&self, x: u32, y: u32, width: u32, height: u32) -> Result<Self, Error> {
        host::crop(&self.0, x, y, width, height).map(Self)
    }

    /// A copy of the middle, which must lie within the picture; as torchvision has it.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn crop_center(&self, width: u32, height: u32) -> Result<Self, Error> {
        host::crop_center(&self.0, width, height).map(Self)
    }

    /// The picture as a tensor.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn to_tensor(&self, options: &TensorOptions) -> Result<Tensor, Error> {
        host::to_tensor(&self.0, options)
    }
}

/// Reads a picture's kind and size without decoding it.
///
/// # Errors
/// `UnsupportedFormat` or `Malformed`.
pub fn inspect(bytes: &[u8]) -> Result<ImageInfo, Error> {
    host::inspect(bytes)
}
