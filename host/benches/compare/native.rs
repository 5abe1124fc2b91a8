//! The image pipeline without plugins and without a host: what `plugins/image-classify` does, written
//! as straight Rust.

use nuke_host::model::tensor::{DataType, Tensor};
use nuke_image::{DecodeOptions, Filter, Picture, TensorOptions};
use serde::Serialize;

use crate::Outcome;

const SHORTER: u32 = 256;
const CROP: u32 = 224;
const MEAN: f32 = 127.0;
const STD: f32 = 128.0;

/// From a photo's bytes to the model's input.
pub(crate) fn preprocess(photo: &[u8]) -> Outcome<Tensor> {
    let options = TensorOptions { mean: vec![MEAN], std: vec![STD], ..TensorOptions::default() };
    let picture = Picture::decode(photo, &DecodeOptions::default())?;
    let tensor =
        picture.resize_shorter(SHORTER, Filter::Bilinear)?.crop_center(CROP, CROP)?.to_tensor(&options)?;
    let shape = tensor.shape.iter().map(|&size| size as usize).collect();
    Ok(Tensor::new("input", DataType::Fp32, shape, tensor.data)?)
}

/// From logits to the JSON of the `k` likeliest labels.
pub(crate) fn postprocess(logits: &Tensor, labels: &[String], k: usize) -> Outcome<Vec<u8>> {
    let logits: Vec<f32> = bytemuck::pod_collect_to_vec(&logits.data);
    if logits.len() != labels.len() || k == 0 || k > logits.len() {
        return Err(format!("{k} of {} labels for {} classes", labels.len(), logits.len()).into());
    }
    let mut ranked: Vec<usize> = (0..logits.len()).collect();
    ranked.select_nth_unstable_by(k - 1, |&left, &right| logits[right].total_cmp(&logits[left]));
    ranked.truncate(k);
    ranked.sort_unstable_by(|&left, &right| logits[right].total_cmp(&logits[left]));
    let highest = logits[ranked[0]];
    let total: f32 = logits.iter().map(|logit| (logit - highest).exp()).sum();
    let predictions = ranked.into_iter().map(|index| Prediction {
        label: &labels[index],
        index,
        probability: (logits[index] - highest).exp() / total,
    });
    Ok(serde_json::to_vec(&Predictions { predictions: predictions.collect() })?)
}

#[derive(Serialize)]
struct Predictions<'a> {
    predictions: Vec<Prediction<'a>>,
}

#[derive(Serialize)]
struct Prediction<'a> {
    label: &'a str,
    index: usize,
    probability: f32,
}

/// The lines of a labels file.
pub(crate) fn labels(text: &[u8]) -> Outcome<Vec<String>> {
    Ok(std::str::from_utf8(text)?.lines().map(str::to_owned).collect())
}
