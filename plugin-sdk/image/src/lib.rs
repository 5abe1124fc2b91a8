//! The picture kernels of Nuke: decode, resize, crop, normalise.
//!
//! Owns what the `image` interface of `wit/plugin.wit` promises. The host answers that import with
//! this crate, and a plugin may compile the same crate into its own WebAssembly: both get the same
//! numbers, because every kernel is integer arithmetic or exactly rounded floating point.
//! It never touches a file, starts a thread, or keeps anything between two calls.
//!
//! ```
//! use nuke_image::{DecodeOptions, Filter, Picture, TensorOptions};
//!
//! # fn main() -> Result<(), nuke_image::ImageError> {
//! # let png = Picture::from_rgb(4, 2, vec![127; 4 * 2 * 3])?.to_png();
//! let picture = Picture::decode(&png, &DecodeOptions::default())?
//!     .resize_shorter(256, Filter::Bilinear)?
//!     .crop_center(224, 224)?;
//! let tensor = picture.to_tensor(&TensorOptions { mean: vec![127.0], std: vec![128.0], ..Default::default() })?;
//! assert_eq!(tensor.shape, [1, 3, 224, 224]);
//! assert_eq!(tensor.data.len(), 224 * 224 * 3 * 4);
//! # Ok(())
//! # }
//! ```
//!
//! # Hostile input
//! A header is read, and its claim of a size checked, before anything is allocated for the pixels.
//! No side may be longer than [`MAX_SIDE`]. Decoding takes up to about nine bytes per pixel
//! (a progressive JPEG), resizing up to three for each pixel of the source or the result, whichever is
//! larger, beside the result itself.

#![forbid(unsafe_code)]

mod decode;
mod error;
mod format;
mod geometry;
mod options;
mod picture;
mod resize;
mod tensor;

pub use error::{ErrorKind, ImageError};
pub use format::{Format, ImageInfo, inspect};
pub use options::{Channels, DecodeOptions, ElementType, Filter, Layout, MAX_SIDE, TensorOptions};
pub use picture::Picture;
pub use tensor::TensorData;
