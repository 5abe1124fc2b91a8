//! Pixels of one size to pixels of another.
//!
//! Owns the order of the passes, which decides the last bit: the order is Pillow's. The sizes have been checked by the caller.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::error::ImageError;
use crate::options::Filter;

/// Width and height.
type Size = (u32, u32);

pub(crate) fn resize(rgb: &[u8], from: Size, to: Size, filter: Filter) -> Result<Vec<u8>, ImageError> {
    let filter = match filter {
        Filter::Nearest => return Ok(nearest(rgb, from, to)),
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Bicubic => FilterType::CatmullRom,
        Filter::Lanczos3 => FilterType::Lanczos3,
    };
    if from == to {
        return Ok(rgb.to_vec());
    }
    if from.0 == to.0 || from.1 == to.1 {
        return pass(rgb, from, to, filter);
    }
    // Pillow 13's order. In between are never more pixels than in the source or the target: columns go
    // first only if they shrink, rows go first only if they shrink or columns do not.
    let fewer = |before: u32, after: u32| i64::from(before) - i64::from(after);
    let (fewer_columns, fewer_rows) = (fewer(from.0, to.0), fewer(from.1, to.1));
    let columns_first = fewer_rows > 0 && fewer_rows > 2 * fewer_columns;
    let between = if columns_first { (from.0, to.1) } else { (to.0, from.1) };
    pass(&pass(rgb, from, between, filter)?, between, to, filter)
}

/// Scales one of the two sides.
fn pass(rgb: &[u8], from: Size, to: Size, filter: FilterType) -> Result<Vec<u8>, ImageError> {
    let fault = |error: &dyn std::fmt::Display| {
        ImageError::invalid(format!("resizing {}x{} to {}x{}: {error}", from.0, from.1, to.0, to.1))
    };
    let source = ImageRef::new(from.0, from.1, rgb, PixelType::U8x3).map_err(|error| fault(&error))?;
    let mut target = Image::new(to.0, to.1, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    Resizer::new().resize(&source, &mut target, &options).map_err(|error| fault(&error))?;
    Ok(target.into_vec())
}

/// The closest source pixel; positions are summed up as Pillow sums them, so that ties fall the same
/// way.
fn nearest(rgb: &[u8], from: Size, to: Size) -> Vec<u8> {
    let columns = nearest_positions(from.0, to.0);
    let row_bytes = from.0 as usize * 3;
    let mut scaled = Vec::with_capacity(to.0 as usize * to.1 as usize * 3);
    for y in nearest_positions(from.1, to.1) {
        let row = rgb[y * row_bytes..(y + 1) * row_bytes].as_chunks::<3>().0;
        scaled.extend(columns.iter().flat_map(|&x| row[x]));
    }
    scaled
}

fn nearest_positions(from: u32, to: u32) -> Vec<usize> {
    let step = f64::from(from) / f64::from(to);
    let mut position = step * 0.5;
    let mut positions = Vec::with_capacity(to as usize);
    for _ in 0..to {
        positions.push((position as usize).min(from as usize - 1));
        position += step;
    }
    positions
}
