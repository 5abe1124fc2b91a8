//! Every kind of file, and every filter, against what Pillow makes of it (`data/make.py`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use nuke_image::{Channels, DecodeOptions, ElementType, Filter, Format, Picture, TensorOptions, inspect};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(data(name)).unwrap()
}

fn picture(name: &str) -> Picture {
    Picture::decode(&read(name), &DecodeOptions::default()).unwrap()
}

fn largest_difference(ours: &[u8], theirs: &[u8]) -> u8 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn every_file_decodes_as_pillow_decodes_it() {
    let mut seen = 0;
    for entry in std::fs::read_dir(data("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let tolerance = match name.rsplit_once('.').unwrap().1 {
            "png" | "webp" => 0,
            // Another decoder: the transform and the colours are rounded differently, and chroma of
            // half size is interpolated differently.
            "jpg" => 8,
            _ => continue,
        };
        let bytes = read(&name);
        let decoded = picture(&name);
        assert_eq!((decoded.width(), decoded.height()), (24, 16), "{name}");
        let info = inspect(&bytes).unwrap();
        assert_eq!((info.width, info.height), (24, 16), "{name}");
        assert_eq!(Some(info.format), Format::of(&bytes));
        let difference = largest_difference(decoded.rgb(), &read(&format!("{name}.rgb")));
        assert!(difference <= tolerance, "{name}: differs by {difference}");
        seen += 1;
    }
    assert_eq!(seen, 29);
}

#[test]
fn a_picture_is_turned_upright_only_if_asked() {
    for orientation in 1..=8 {
        let bytes = read(&format!("orientation{orientation}.jpg"));
        let options = DecodeOptions { apply_orientation: true, ..DecodeOptions::default() };
        let upright = Picture::decode(&bytes, &options).unwrap();
        let expected = if orientation < 5 { (24, 16) } else { (16, 24) };
        assert_eq!((upright.width(), upright.height()), expected);
        let theirs = read(&format!("orientation{orientation}.upright"));
        assert!(largest_difference(upright.rgb(), &theirs) <= 8, "{orientation}");
        assert_eq!(Picture::decode(&bytes, &DecodeOptions::default()).unwrap().width(), 24);
    }
}

#[test]
fn every_filter_resizes_as_pillow_does() {
    let source = picture("rgb8.png");
    let theirs = read("resized.rgb");
    let mut theirs = theirs.as_slice();
    for (width, height) in [(12, 8), (48, 32), (7, 16), (24, 5), (22, 4), (5, 15), (40, 6), (6, 30), (24, 16)]
    {
        for filter in [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos3] {
            let resized = source.resize(width, height, filter).unwrap();
            let (expected, rest) = theirs.split_at((width * height * 3) as usize);
            theirs = rest;
            let tolerance = if filter == Filter::Nearest { 0 } else { 2 };
            let difference = largest_difference(resized.rgb(), expected);
            assert!(difference <= tolerance, "{width}x{height} {filter:?}: differs by {difference}");
            let equal = resized.rgb().iter().zip(expected).filter(|(ours, theirs)| ours == theirs).count();
            assert!(equal * 20 >= expected.len() * 19, "{width}x{height} {filter:?}: {equal} equal");
        }
    }
    assert!(theirs.is_empty());
}

#[test]
fn gray_is_pillows_luma() {
    let options =
        TensorOptions { element: ElementType::Uint8, channels: Channels::Gray, ..TensorOptions::default() };
    let gray = picture("rgb8.png").to_tensor(&options).unwrap();
    assert_eq!(gray.shape, [1, 1, 16, 24]);
    assert_eq!(gray.data, read("luma.gray"));
}
