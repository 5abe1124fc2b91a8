//! The imports as the generated bindings have them.

use crate::bindings::nuke::plugin::{bundle, logging};
use crate::bundle::{FileError, FileInfo, Identity};
use crate::log::Level;

pub(crate) fn log(level: Level, message: &str, fields: &[(String, String)]) {
    let level = match level {
        Level::Trace => logging::Level::Trace,
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warn => logging::Level::Warn,
        Level::Error => logging::Level::Error,
    };
    logging::log(level, message, fields);
}

pub(crate) fn read(path: &str) -> Result<Vec<u8>, FileError> {
    bundle::read(path).map_err(|error| match error {
        bundle::FileError::NotFound => FileError::NotFound,
        bundle::FileError::TooLarge => FileError::TooLarge,
    })
}

pub(crate) fn files() -> Vec<FileInfo> {
    bundle::files().into_iter().map(|file| FileInfo { path: file.path, size: file.size }).collect()
}

pub(crate) fn settings() -> Vec<(String, String)> {
    bundle::settings()
}

pub(crate) fn whoami() -> Identity {
    let identity = bundle::whoami();
    Identity { model: identity.model, version: identity.version }
}

#[cfg(feature = "image")]
pub(crate) mod image {
    //! The host's picture kernels.

    use crate::bindings::nuke::plugin::image as host;
    use crate::image::{Channels, DecodeOptions, Error, ErrorKind, Filter, ImageInfo, Layout, TensorOptions};
    use crate::tensor::Tensor;

    pub(crate) type Picture = host::Picture;

    fn error(error: host::ImageError) -> Error {
        let kind = match error.code {
            host::ImageErrorCode::UnsupportedFormat => ErrorKind::UnsupportedFormat,
            host::ImageErrorCode::Malformed => ErrorKind::Malformed,
            host::ImageErrorCode::TooLarge => ErrorKind::TooLarge,
            host::ImageErrorCode::InvalidArgument => ErrorKind::InvalidArgument,
        };
        Error { kind, message: error.message }
    }

    const fn filter(filter: Filter) -> host::Filter {
        match filter {
            Filter::Nearest => host::Filter::Nearest,
            Filter::Bilinear => host::Filter::Bilinear,
            Filter::Bicubic => host::Filter::Bicubic,
            Filter::Lanczos3 => host::Filter::Lanczos3,
        }
    }

    pub(crate) fn inspect(bytes: &[u8]) -> Result<ImageInfo, Error> {
        let info = host::inspect(bytes).map_err(error)?;
        Ok(ImageInfo { content_type: info.content_type, width: info.width, height: info.height })
    }

    pub(crate) fn decode(bytes: &[u8], options: DecodeOptions) -> Result<Picture, Error> {
        let options = host::DecodeOptions {
            max_pixels: options.max_pixels,
            apply_orientation: options.apply_orientation,
        };
        Picture::decode(bytes, options).map_err(error)
    }

    pub(crate) fn size(picture: &Picture) -> (u32, u32) {
        (picture.width(), picture.height())
    }

    pub(crate) fn resize(picture: &Picture, width: u32, height: u32, by: Filter) -> Result<Picture, Error> {
        picture.resize(width, height, filter(by)).map_err(error)
    }

    pub(crate) fn resize_shorter(picture: &Picture, shorter: u32, by: Filter) -> Result<Picture, Error> {
        picture.resize_shorter(shorter, filter(by)).map_err(error)
    }

    pub(crate) fn crop(picture: &Picture, x: u32, y: u32, width: u32, height: u32) -> Result<Picture, Error> {
        picture.crop(x, y, width, height).map_err(error)
    }

    pub(crate) fn crop_center(picture: &Picture, width: u32, height: u32) -> Result<Picture, Error> {
        picture.crop_center(width, height).map_err(error)
    }

    pub(crate) fn to_tensor(picture: &Picture, options: &TensorOptions) -> Result<Tensor, Error> {
        let options = host::TensorOptions {
            name: options.name.clone(),
            datatype: options.datatype.into(),
            layout: match options.layout {
                Layout::Nchw => host::Layout::Nchw,
                Layout::Nhwc => host::Layout::Nhwc,
            },
            channels: match options.channels {
                Channels::Rgb => host::Channels::Rgb,
                Channels::Bgr => host::Channels::Bgr,
                Channels::Gray => host::Channels::Gray,
            },
            mean: options.mean.clone(),
            std: options.std.clone(),
        };
        picture.to_tensor(&options).map(Tensor::from).map_err(error)
    }
}
