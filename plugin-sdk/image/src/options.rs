//! The arguments of the kernels.

/// No side of a picture, read or made, is longer than this: what a JPEG can say at most. It bounds
/// the tables that resizing builds for each side.
pub const MAX_SIDE: u32 = 65_535;

/// How to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Refuse a picture of more pixels than this, as its header says.
    pub max_pixels: u32,
    /// Refuse to make a picture of more pixels than this out of it, by resizing.
    pub max_result_pixels: u32,
    /// Turn and mirror the picture as its EXIF data says.
    pub apply_orientation: bool,
}

impl DecodeOptions {
    /// What a picture may have at most unless told otherwise: 64 Mi pixels, 192 MiB of RGB.
    pub const DEFAULT_MAX_PIXELS: u32 = 64 << 20;
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            max_pixels: Self::DEFAULT_MAX_PIXELS,
            max_result_pixels: Self::DEFAULT_MAX_PIXELS,
            apply_orientation: false,
        }
    }
}

/// How to compute a pixel of the new size. All but `Nearest` widen their support when shrinking
/// (they antialias), as Pillow does.
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
    /// `[1, channels, height, width]`.
    Nchw,
    /// `[1, height, width, channels]`.
    Nhwc,
}

/// Which channels, in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channels {
    /// Three: red, green, blue.
    Rgb,
    /// Three: blue, green, red.
    Bgr,
    /// One: luma by ITU-R 601-2, `(299 R + 587 G + 114 B) / 1000`, as Pillow's `convert("L")`.
    Gray,
}

impl Channels {
    /// How many.
    pub const fn count(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Gray => 1,
        }
    }
}

/// What each element of a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// IEEE 754 binary16.
    Fp16,
    /// The upper half of an FP32, rounded to nearest even.
    Bf16,
    /// IEEE 754 binary32.
    Fp32,
    /// IEEE 754 binary64.
    Fp64,
    /// The pixel itself.
    Uint8,
}

impl ElementType {
    /// Bytes per element.
    pub const fn width(self) -> usize {
        match self {
            Self::Uint8 => 1,
            Self::Fp16 | Self::Bf16 => 2,
            Self::Fp32 => 4,
            Self::Fp64 => 8,
        }
    }

    /// The protocol's name of it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Uint8 => "UINT8",
        }
    }
}

/// How pixels (0 to 255) become elements: `(pixel - mean) / std`, by channel.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorOptions {
    /// What each element is.
    pub element: ElementType,
    /// The order of the dimensions.
    pub layout: Layout,
    /// The channels and their order.
    pub channels: Channels,
    /// One value for all channels, or one for each in the tensor's order; empty for 0.
    /// Must be empty for `Uint8`.
    pub mean: Vec<f32>,
    /// As `mean`; empty for 1. Must be empty for `Uint8`.
    pub std: Vec<f32>,
}

/// `FP32`, `[1, 3, height, width]`, red green blue, 0 to 255.
impl Default for TensorOptions {
    fn default() -> Self {
        Self {
            element: ElementType::Fp32,
            layout: Layout::Nchw,
            channels: Channels::Rgb,
            mean: Vec::new(),
            std: Vec::new(),
        }
    }
}
