//! A request's body to the model's input.

use nuke_plugin_sdk::image::{DecodeOptions, Error as ImageError, ErrorKind};
use nuke_plugin_sdk::{Error, Request, Result, ensure};

use crate::decoder::Picture;
use crate::settings::Settings;

/// Media types that say nothing about the body. The second is what curl sends with `--data-binary`.
const SILENT: [&str; 3] = ["", "application/octet-stream", "application/x-www-form-urlencoded"];

pub(crate) fn input(request: &Request, settings: &Settings) -> Result<nuke_plugin_sdk::Tensor> {
    ensure!(!request.body.is_empty(), invalid, "the body is empty: send a JPEG, PNG or WebP picture");
    let options = DecodeOptions { max_pixels: settings.max_pixels, apply_orientation: settings.orientation };
    let picture = Picture::decode(&request.body, options).map_err(|error| refusal(request, error))?;
    let prepared = picture
        .resize_shorter(settings.resize, settings.filter)
        .and_then(|picture| picture.crop_center(settings.size, settings.size))
        .and_then(|picture| picture.to_tensor(&settings.tensor));
    Ok(prepared?)
}

/// Whose fault it is that a body is no picture: its media type counts only if it speaks against one.
fn refusal(request: &Request, error: ImageError) -> Error {
    let media_type = request.media_type();
    match error.kind {
        ErrorKind::UnsupportedFormat
            if !media_type.starts_with("image/") && !SILENT.contains(&media_type.as_str()) =>
        {
            Error::unsupported_media_type(format!(
                "a body of {media_type} is not read: send the picture itself, a JPEG, PNG or WebP"
            ))
        }
        ErrorKind::UnsupportedFormat | ErrorKind::Malformed => {
            Error::invalid(format!("the body is no picture: {}", error.message))
        }
        ErrorKind::TooLarge | ErrorKind::InvalidArgument => error.into(),
    }
}
