//! Elements by their definition, in every type, layout and order of channels.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use half::{bf16, f16};
use nuke_image::{Channels, ElementType, ErrorKind, Layout, Picture, TensorOptions};

const MEAN: [f32; 3] = [123.675, 116.28, 103.53];
const STD: [f32; 3] = [58.395, 57.12, 57.375];

/// All 256 values of red, and others of green and blue.
fn picture() -> Picture {
    let rgb = (0..=u8::MAX).flat_map(|value| [value, value.wrapping_mul(7), 255 - value]).collect();
    Picture::from_rgb(32, 8, rgb).unwrap()
}

fn options(element: ElementType, layout: Layout, channels: Channels) -> TensorOptions {
    let (mean, std) = if element == ElementType::Uint8 {
        (Vec::new(), Vec::new())
    } else if channels == Channels::Gray {
        (vec![MEAN[0]], vec![STD[0]])
    } else {
        (MEAN.to_vec(), STD.to_vec())
    };
    TensorOptions { element, layout, channels, mean, std }
}

/// The pixel value that element `index` is made of, and its channel.
fn source(picture: &Picture, index: usize, options: &TensorOptions) -> (u8, usize) {
    let pixels = picture.rgb().len() / 3;
    if options.channels == Channels::Gray {
        let [red, green, blue] = [0, 1, 2].map(|byte| u32::from(picture.rgb()[index * 3 + byte]));
        return (((red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000) >> 16) as u8, 0);
    }
    let (pixel, channel) = match options.layout {
        Layout::Nchw => (index % pixels, index / pixels),
        Layout::Nhwc => (index / 3, index % 3),
    };
    let byte = if options.channels == Channels::Bgr { 2 - channel } else { channel };
    (picture.rgb()[pixel * 3 + byte], channel)
}

#[test]
fn every_element_is_what_the_definition_says() {
    let picture = picture();
    for layout in [Layout::Nchw, Layout::Nhwc] {
        for channels in [Channels::Rgb, Channels::Bgr, Channels::Gray] {
            for element in [
                ElementType::Uint8,
                ElementType::Fp16,
                ElementType::Bf16,
                ElementType::Fp32,
                ElementType::Fp64,
            ] {
                let options = options(element, layout, channels);
                let tensor = picture.to_tensor(&options).unwrap();
                let count = channels.count() as u32;
                let shape = if layout == Layout::Nchw { [1, count, 8, 32] } else { [1, 8, 32, count] };
                assert_eq!(tensor.shape, shape);
                assert_eq!(tensor.data.len(), 256 * channels.count() * element.width());
                for (index, bytes) in tensor.data.chunks_exact(element.width()).enumerate() {
                    let (pixel, channel) = source(&picture, index, &options);
                    let single = (f32::from(pixel) - MEAN[channel]) / STD[channel];
                    let expected = match element {
                        ElementType::Uint8 => vec![pixel],
                        ElementType::Fp16 => f16::from_f32(single).to_le_bytes().to_vec(),
                        ElementType::Bf16 => bf16::from_f32(single).to_le_bytes().to_vec(),
                        ElementType::Fp32 => single.to_le_bytes().to_vec(),
                        ElementType::Fp64 => {
                            let double =
                                (f64::from(pixel) - f64::from(MEAN[channel])) / f64::from(STD[channel]);
                            double.to_le_bytes().to_vec()
                        }
                    };
                    assert_eq!(bytes, expected, "{element:?} {layout:?} {channels:?} element {index}");
                }
            }
        }
    }
}

#[test]
fn one_value_serves_all_channels_and_none_changes_nothing() {
    let picture = Picture::from_rgb(1, 1, vec![0, 127, 255]).unwrap();
    let plain = picture.to_tensor(&TensorOptions::default()).unwrap();
    assert_eq!(plain.data, [0.0_f32, 127.0, 255.0].map(f32::to_le_bytes).concat());
    let options = TensorOptions { mean: vec![127.0], std: vec![128.0], ..TensorOptions::default() };
    let scaled = picture.to_tensor(&options).unwrap();
    assert_eq!(scaled.data, [-0.992_187_5_f32, 0.0, 1.0].map(f32::to_le_bytes).concat());
}

fn refusal(change: impl FnOnce(&mut TensorOptions)) -> String {
    let mut options = TensorOptions::default();
    change(&mut options);
    let error = picture().to_tensor(&options).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    error.to_string()
}

#[test]
fn options_without_sense_are_refused_by_name() {
    assert_eq!(refusal(|options| options.std = vec![f32::NAN]), "std must be finite, got NaN");
    assert_eq!(refusal(|options| options.mean = vec![f32::INFINITY]), "mean must be finite, got inf");
    assert_eq!(
        refusal(|options| options.std = vec![1.0, 0.0, 1.0]),
        "std must not be 0, got [1.0, 0.0, 1.0]"
    );
    assert_eq!(
        refusal(|options| options.mean = vec![1.0, 2.0]),
        "mean must have no value, one, or one for each of 3 channels, got 2"
    );
    assert_eq!(
        refusal(|options| (options.channels, options.std) = (Channels::Gray, vec![1.0; 3])),
        "std must have no value, one, or one for each of 1 channels, got 3"
    );
    assert_eq!(
        refusal(|options| (options.element, options.mean) = (ElementType::Uint8, vec![1.0])),
        "UINT8 elements are the pixels themselves: mean and std must be empty"
    );
}

#[test]
fn an_element_beyond_its_type_is_refused() {
    assert_eq!(
        refusal(|options| (options.element, options.std) = (ElementType::Fp16, vec![0.001])),
        "mean and std make an element of 66000, which FP16 cannot hold"
    );
    assert!(refusal(|options| options.std = vec![1e-40]).contains("FP32 cannot hold"));
}
