//! Capability `image`: the host's decoders and kernels.
//!
//! Owns the guest's handles, the operator's pixel limit, and the count of the bytes that an
//! instance's pictures hold. The kernels are `nuke-image`'s: the same code that a plugin may compile
//! in, so that both ways give the same numbers.

use nuke_image::{ErrorKind, Picture};
use wasmtime::component::Resource;

use crate::plugin::bindings::nuke::plugin::image as wit;
use crate::plugin::bindings::nuke::plugin::types::{Datatype, TensorResult};
use crate::plugin::instance::InstanceState;

type Answer<T> = wasmtime::Result<Result<T, wit::ImageError>>;

/// A decoded picture that a guest holds a handle to.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct PictureHandle(Picture);

/// How much of the host's memory an instance's pictures may take, and take.
#[derive(Debug)]
pub(in crate::plugin) struct PictureBudget {
    /// Pixels that one picture may have.
    pub(in crate::plugin) pixels: u32,
    limit: usize,
    used: usize,
    exhausted: bool,
}

impl PictureBudget {
    pub(in crate::plugin) fn new(pixels: u32, limit: usize) -> Self {
        Self { pixels, limit, used: 0, exhausted: false }
    }

    fn take(&mut self, bytes: usize) -> Result<(), wit::ImageError> {
        if bytes > self.limit.saturating_sub(self.used) {
            self.exhausted = true;
            return Err(wit::ImageError {
                code: wit::ImageErrorCode::TooLarge,
                message: format!(
                    "pictures of this instance would hold {} bytes, the limit is {} (plugins.memory)",
                    self.used.saturating_add(bytes),
                    self.limit
                ),
            });
        }
        self.used += bytes;
        Ok(())
    }

    /// Whether a picture was ever refused: a guest that forgets its handles goes on failing.
    pub(in crate::plugin) fn was_exhausted(&self) -> bool {
        self.exhausted
    }

    fn release(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }
}

impl InstanceState {
    /// Files a picture under a new handle.
    fn file(&mut self, made: Result<Picture, nuke_image::ImageError>) -> Answer<Resource<PictureHandle>> {
        let picture = match made {
            Ok(picture) => picture,
            Err(error) => return Ok(Err(error_to_guest(error))),
        };
        if let Err(error) = self.pictures.take(picture.rgb().len()) {
            return Ok(Err(error));
        }
        Ok(Ok(self.table.push(PictureHandle(picture))?))
    }

    fn picture(&self, handle: &Resource<PictureHandle>) -> wasmtime::Result<&Picture> {
        Ok(&self.table.get(handle)?.0)
    }
}

impl wit::Host for InstanceState {
    fn inspect(&mut self, data: Vec<u8>) -> Answer<wit::ImageInfo> {
        Ok(nuke_image::inspect(&data).map_err(error_to_guest).map(|info| wit::ImageInfo {
            content_type: info.format.content_type().to_owned(),
            width: info.width,
            height: info.height,
        }))
    }
}

impl wit::HostPicture for InstanceState {
    fn decode(&mut self, data: Vec<u8>, options: wit::DecodeOptions) -> Answer<Resource<PictureHandle>> {
        let limit = self.pictures.pixels;
        let max_pixels = if options.max_pixels == 0 { limit } else { options.max_pixels.min(limit) };
        let options = nuke_image::DecodeOptions {
            max_pixels,
            max_result_pixels: limit,
            apply_orientation: options.apply_orientation,
        };
        let decoded = Picture::decode(&data, &options);
        self.file(decoded)
    }

    fn width(&mut self, picture: Resource<PictureHandle>) -> wasmtime::Result<u32> {
        Ok(self.picture(&picture)?.width())
    }

    fn height(&mut self, picture: Resource<PictureHandle>) -> wasmtime::Result<u32> {
        Ok(self.picture(&picture)?.height())
    }

    fn resize(
        &mut self,
        picture: Resource<PictureHandle>,
        width: u32,
        height: u32,
        filter: wit::Filter,
    ) -> Answer<Resource<PictureHandle>> {
        let resized = self.picture(&picture)?.resize(width, height, filter_from_guest(filter));
        self.file(resized)
    }

    fn resize_shorter(
        &mut self,
        picture: Resource<PictureHandle>,
        shorter: u32,
        filter: wit::Filter,
    ) -> Answer<Resource<PictureHandle>> {
        let resized = self.picture(&picture)?.resize_shorter(shorter, filter_from_guest(filter));
        self.file(resized)
    }

    fn crop(
        &mut self,
        picture: Resource<PictureHandle>,
        x: u32,
        y: u32,
        width: u32,
        height: u32,
    ) -> Answer<Resource<PictureHandle>> {
        let cropped = self.picture(&picture)?.crop(x, y, width, height);
        self.file(cropped)
    }

    fn crop_center(
        &mut self,
        picture: Resource<PictureHandle>,
        width: u32,
        height: u32,
    ) -> Answer<Resource<PictureHandle>> {
        let cropped = self.picture(&picture)?.crop_center(width, height);
        self.file(cropped)
    }

    fn to_tensor(
        &mut self,
        picture: Resource<PictureHandle>,
        options: wit::TensorOptions,
    ) -> Answer<TensorResult> {
        let Some(element) = element_from_guest(options.datatype) else {
            return Ok(Err(wit::ImageError {
                code: wit::ImageErrorCode::InvalidArgument,
                message: format!(
                    "a picture becomes fp16, bf16, fp32, fp64 or uint8, not {:?}",
                    options.datatype
                ),
            }));
        };
        let kernel_options = nuke_image::TensorOptions {
            element,
            layout: match options.layout {
                wit::Layout::Nchw => nuke_image::Layout::Nchw,
                wit::Layout::Nhwc => nuke_image::Layout::Nhwc,
            },
            channels: match options.channels {
                wit::Channels::Rgb => nuke_image::Channels::Rgb,
                wit::Channels::Bgr => nuke_image::Channels::Bgr,
                wit::Channels::Gray => nuke_image::Channels::Gray,
            },
            mean: options.mean,
            std: options.std,
        };
        let made = self.picture(&picture)?.to_tensor(&kernel_options);
        Ok(made.map_err(error_to_guest).map(|tensor| TensorResult {
            name: options.name,
            datatype: options.datatype,
            shape: tensor.shape.to_vec(),
            data: tensor.data,
        }))
    }

    fn drop(&mut self, picture: Resource<PictureHandle>) -> wasmtime::Result<()> {
        let picture = self.table.delete(picture)?;
        self.pictures.release(picture.0.rgb().len());
        Ok(())
    }
}

fn error_to_guest(error: nuke_image::ImageError) -> wit::ImageError {
    let code = match error.kind {
        ErrorKind::UnsupportedFormat => wit::ImageErrorCode::UnsupportedFormat,
        ErrorKind::Malformed => wit::ImageErrorCode::Malformed,
        ErrorKind::TooLarge => wit::ImageErrorCode::TooLarge,
        ErrorKind::InvalidArgument => wit::ImageErrorCode::InvalidArgument,
    };
    wit::ImageError { code, message: error.message.into_owned() }
}

const fn filter_from_guest(filter: wit::Filter) -> nuke_image::Filter {
    match filter {
        wit::Filter::Nearest => nuke_image::Filter::Nearest,
        wit::Filter::Bilinear => nuke_image::Filter::Bilinear,
        wit::Filter::Bicubic => nuke_image::Filter::Bicubic,
        wit::Filter::Lanczos3 => nuke_image::Filter::Lanczos3,
    }
}

const fn element_from_guest(datatype: Datatype) -> Option<nuke_image::ElementType> {
    match datatype {
        Datatype::Fp16 => Some(nuke_image::ElementType::Fp16),
        Datatype::Bf16 => Some(nuke_image::ElementType::Bf16),
        Datatype::Fp32 => Some(nuke_image::ElementType::Fp32),
        Datatype::Fp64 => Some(nuke_image::ElementType::Fp64),
        Datatype::Uint8 => Some(nuke_image::ElementType::Uint8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_of_one_instance_share_a_budget() {
        let mut budget = PictureBudget::new(100, 300);
        assert!(budget.take(200).is_ok());
        let refused = budget.take(200).unwrap_err();
        assert!(refused.message.contains("would hold 400 bytes, the limit is 300"), "{}", refused.message);
        budget.release(200);
        assert!(budget.take(300).is_ok());
    }
}
