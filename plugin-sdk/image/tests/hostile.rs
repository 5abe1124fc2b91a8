//! Files that lie, stop short or are noise: always an error of the right kind, never a panic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use nuke_image::{DecodeOptions, ErrorKind, Filter, Picture, inspect};
use proptest::prelude::*;

const FILES: [&[u8]; 7] = [
    include_bytes!("data/rgba8.png"),
    include_bytes!("data/palette4.png"),
    include_bytes!("data/subsampled.jpg"),
    include_bytes!("data/progressive.jpg"),
    include_bytes!("data/orientation6.jpg"),
    include_bytes!("data/lossy.webp"),
    include_bytes!("data/lossless.webp"),
];

fn decode(bytes: &[u8]) -> Result<Picture, nuke_image::ImageError> {
    let options = DecodeOptions { max_pixels: 1 << 20, apply_orientation: true, ..Default::default() };
    Picture::decode(bytes, &options)
}

fn kind_of(bytes: &[u8]) -> ErrorKind {
    decode(bytes).unwrap_err().kind
}

/// A PNG that claims a size, and has hardly any bytes.
fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    file.extend(&header);
    file.extend(crc32(&header).to_be_bytes());
    file.extend(b"\0\0\0\x01IDAT\0");
    file.extend(crc32(b"IDAT\0").to_be_bytes());
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// The smallest JPEG header that claims a size.
fn jpeg_claiming(width: u16, height: u16) -> Vec<u8> {
    let mut file = include_bytes!("data/subsampled.jpg").to_vec();
    let frame = file.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    file[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    file[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    file
}

#[test]
fn a_claim_of_60000_by_60000_is_refused_by_the_header() {
    for file in [png_claiming(60_000, 60_000), jpeg_claiming(60_000, 60_000)] {
        let info = inspect(&file).unwrap();
        assert_eq!((info.width, info.height), (60_000, 60_000));
        let error = decode(&file).unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge);
        assert_eq!(
            error.message,
            "a picture of 60000x60000 has 3600000000 pixels, at most 1048576 are allowed"
        );
    }
}

#[test]
fn a_long_side_is_refused_whatever_the_pixels() {
    let error = decode(&png_claiming(70_000, 1)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge);
    assert!(error.message.contains("65535"), "{error}");
}

#[test]
fn an_empty_picture_is_malformed() {
    assert_eq!(kind_of(&png_claiming(0, 5)), ErrorKind::Malformed);
    assert_eq!(kind_of(&jpeg_claiming(0, 5)), ErrorKind::Malformed);
    assert_eq!(kind_of(b""), ErrorKind::Malformed);
}

#[test]
fn bytes_of_no_picture_are_named() {
    let error = decode(b"GIF89a\x01\0\x01\0").unwrap_err();
    assert_eq!(error.kind, ErrorKind::UnsupportedFormat);
    assert_eq!(error.message, "neither JPEG, PNG nor WebP: 10 bytes that start with 47 49 46 38 39 61 01 00");
    assert_eq!(inspect(b"hello").unwrap_err().kind, ErrorKind::UnsupportedFormat);
}

#[test]
fn every_cut_of_a_file_is_malformed() {
    for file in FILES {
        // The last bytes of a PNG are its end chunk, of a WebP padding: without them all is there.
        for length in 12..file.len() - 24 {
            let error = decode(&file[..length]).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Malformed, "{length} of {}: {error}", file.len());
        }
    }
}

#[test]
fn a_jpeg_without_its_end_is_cut_short_even_if_a_thumbnail_has_one() {
    let whole = FILES[2];
    let mut file = whole[..2].to_vec();
    file.extend([0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9]);
    file.extend(&whole[2..whole.len() - 40]);
    let error = decode(&file).unwrap_err();
    assert_eq!(error.message, "the JPEG is cut short: it has no end marker");
}

#[test]
fn a_copy_is_not_larger_than_allowed() {
    let options = DecodeOptions { max_result_pixels: 1000, ..Default::default() };
    let picture = Picture::decode(FILES[0], &options).unwrap();
    assert!(picture.resize(30, 30, Filter::Bilinear).is_ok());
    for (width, height) in [(40, 30), (u32::MAX, u32::MAX), (1, 70_000)] {
        let error = picture.resize(width, height, Filter::Bilinear).unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge, "{error}");
    }
    assert_eq!(picture.resize_shorter(u32::MAX, Filter::Nearest).unwrap_err().kind, ErrorKind::TooLarge);
    for (width, height) in [(0, 5), (5, 0)] {
        let error = picture.resize(width, height, Filter::Bilinear).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
    }
}

#[test]
fn extreme_shapes_resize_without_extreme_memory() {
    let thin = Picture::from_rgb(1, 60_000, vec![7; 180_000]).unwrap();
    let flat = thin.resize(60_000, 1, Filter::Lanczos3).unwrap();
    assert!(flat.rgb().iter().all(|&value| value == 7));
    assert!(flat.resize(1, 60_000, Filter::Bilinear).unwrap().rgb().iter().all(|&value| value == 7));
}

#[test]
fn a_crop_lies_within_the_picture() {
    let picture = decode(FILES[0]).unwrap();
    assert_eq!(picture.crop(23, 15, 1, 1).unwrap().rgb(), &picture.rgb()[picture.rgb().len() - 3..]);
    for (x, y, width, height) in
        [(0, 0, 0, 1), (24, 0, 1, 1), (1, 0, 24, 1), (u32::MAX, 0, 2, 2), (0, 1, 1, 16)]
    {
        let error = picture.crop(x, y, width, height).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
    }
    assert_eq!(picture.crop_center(25, 1).unwrap_err().kind, ErrorKind::InvalidArgument);
    assert_eq!(picture.crop_center(0, 1).unwrap_err().kind, ErrorKind::InvalidArgument);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn damaged_files_never_panic(
        file in 0..FILES.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = FILES[file].to_vec();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(picture) = decode(&bytes) {
            prop_assert_eq!(picture.rgb().len() as u32, picture.width() * picture.height() * 3);
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let _ = decode(&bytes);
        let _ = inspect(&bytes);
    }

    #[test]
    fn noise_after_a_signature_never_panics(
        signature in prop::sample::select(vec![&b"\xff\xd8\xff"[..], b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBPVP8 "]),
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [signature, &noise].concat();
        let _ = decode(&bytes);
        let _ = inspect(&bytes);
    }

    #[test]
    fn any_size_is_made_or_refused(width in 1_u32..40, height in 1_u32..40, to_width in 0_u32..90, to_height in 0_u32..90) {
        let rgb = vec![9; (width * height * 3) as usize];
        let picture = Picture::from_rgb(width, height, rgb).unwrap();
        for filter in [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos3] {
            match picture.resize(to_width, to_height, filter) {
                Ok(copy) => prop_assert!(copy.rgb().iter().all(|&value| value == 9)),
                Err(error) => prop_assert!(to_width * to_height == 0, "{}", error),
            }
        }
    }
}
