//! What the bundle says about its model.

use nuke_plugin_sdk::image::{Channels, Filter, Layout, TensorOptions};
use nuke_plugin_sdk::{DataType, Error, Result, bundle, ensure};

/// The pairs under `settings:` in bundle.yaml, checked; the defaults are those of EfficientNet-Lite0.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `labels`: the file of labels, a line each, in the order of the classes. Default `labels.txt`.
    pub labels: String,
    /// `output`: the model's output that has the scores. Default: its first of `FP32`.
    pub output: Option<String>,
    /// `top_k`: how many labels to answer with unless the request says. Default 5, or fewer if there are
    /// fewer labels.
    pub top_k: Option<usize>,
    /// `resize`: the shorter side is scaled to this many pixels. Default 256.
    pub resize: u32,
    /// `filter`: how: `nearest`, `bilinear`, `bicubic` or `lanczos3`. Default `bilinear`.
    pub filter: Filter,
    /// `size`: of that, the middle square of this side is taken. Default 224.
    pub size: u32,
    /// `orientation`: whether to turn a photo upright as its EXIF data says. Default `true`.
    pub orientation: bool,
    /// `max_pixels`: refuse larger pictures; 0 for the limit of the host (or, in the build that decodes
    /// in WebAssembly, of what its memory holds). Default 0.
    pub max_pixels: u32,
    /// `input`: the tensor's name (default `input`); `datatype` (`FP32`); `layout`: `nchw` or `nhwc`
    /// (`nchw`); `channels`: `rgb`, `bgr` or `gray` (`rgb`); `mean` (127) and `std` (128): one value or a
    /// list with one for each channel.
    pub tensor: TensorOptions,
}

impl Settings {
    /// Reads the bundle's settings. Those of other names are left alone.
    ///
    /// # Errors
    /// `Internal`, naming the setting, what is allowed and what came.
    pub fn read(pairs: &bundle::Settings) -> Result<Self> {
        let text = |name: &str, default: &str| pairs.text(name).unwrap_or(default).to_owned();
        let tensor = TensorOptions {
            name: text("input", "input"),
            datatype: choice(pairs, "datatype", &DATATYPES, "FP32")?,
            layout: choice(pairs, "layout", &LAYOUTS, "nchw")?,
            channels: choice(pairs, "channels", &CHANNELS, "rgb")?,
            mean: Vec::new(),
            std: Vec::new(),
        };
        // Pixels as they are have no mean or std unless somebody insists.
        let plain = tensor.datatype == DataType::Uint8;
        let values = |name: &str, default: f32| -> Result<Vec<f32>> {
            let default = if plain { Vec::new() } else { vec![default] };
            Ok(pairs.list(name)?.unwrap_or(default))
        };
        let settings = Self {
            labels: text("labels", "labels.txt"),
            output: pairs.text("output").map(str::to_owned),
            top_k: pairs.get("top_k")?,
            resize: pairs.get("resize")?.unwrap_or(256),
            filter: choice(pairs, "filter", &FILTERS, "bilinear")?,
            size: pairs.get("size")?.unwrap_or(224),
            orientation: pairs.get("orientation")?.unwrap_or(true),
            max_pixels: pairs.get("max_pixels")?.unwrap_or(0),
            tensor: TensorOptions { mean: values("mean", 127.0)?, std: values("std", 128.0)?, ..tensor },
        };
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<()> {
        ensure!(self.top_k != Some(0), internal, "setting 'top_k' must be at least 1, got 0");
        ensure!(self.size > 0, internal, "setting 'size' must be at least 1, got 0");
        ensure!(
            self.size <= self.resize,
            internal,
            "setting 'size' is {}, more than the {} that 'resize' leaves",
            self.size,
            self.resize
        );
        Ok(())
    }
}

const FILTERS: [(&str, Filter); 4] = [
    ("nearest", Filter::Nearest),
    ("bilinear", Filter::Bilinear),
    ("bicubic", Filter::Bicubic),
    ("lanczos3", Filter::Lanczos3),
];

const LAYOUTS: [(&str, Layout); 2] = [("nchw", Layout::Nchw), ("nhwc", Layout::Nhwc)];

const CHANNELS: [(&str, Channels); 3] =
    [("rgb", Channels::Rgb), ("bgr", Channels::Bgr), ("gray", Channels::Gray)];

const DATATYPES: [(&str, DataType); 5] = [
    ("FP16", DataType::Fp16),
    ("BF16", DataType::Bf16),
    ("FP32", DataType::Fp32),
    ("FP64", DataType::Fp64),
    ("UINT8", DataType::Uint8),
];

/// One of a few names.
fn choice<T: Copy>(pairs: &bundle::Settings, name: &str, choices: &[(&str, T)], default: &str) -> Result<T> {
    let given = pairs.text(name).unwrap_or(default);
    choices.iter().find(|(known, _)| *known == given).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&str> = choices.iter().map(|(known, _)| *known).collect();
        Error::internal(format!("setting '{name}' must be one of {}, got '{given}'", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings> {
        let pairs = pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Settings::read(&bundle::Settings::new(pairs))
    }

    #[test]
    fn the_defaults_are_those_of_efficientnet_lite0() {
        let settings = read(&[]).unwrap();
        assert_eq!((settings.resize, settings.size, settings.filter), (256, 224, Filter::Bilinear));
        assert_eq!((settings.top_k, settings.labels.as_str()), (None, "labels.txt"));
        let expected = TensorOptions { mean: vec![127.0], std: vec![128.0], ..TensorOptions::new("input") };
        assert_eq!(settings.tensor, expected);
    }

    #[test]
    fn each_may_be_set() {
        let settings = read(&[
            ("input", "x"),
            ("output", "scores"),
            ("layout", "nhwc"),
            ("channels", "bgr"),
            ("datatype", "FP16"),
            ("mean", "[1, 2, 3]"),
            ("std", "0.5"),
            ("orientation", "false"),
            ("size", "256"),
            ("unknown", "left alone"),
        ])
        .unwrap();
        assert_eq!(settings.output.as_deref(), Some("scores"));
        assert_eq!(settings.tensor.mean, [1.0, 2.0, 3.0]);
        assert_eq!((settings.tensor.layout, settings.tensor.channels), (Layout::Nhwc, Channels::Bgr));
        assert!(!settings.orientation);
        assert!(read(&[("datatype", "UINT8")]).unwrap().tensor.mean.is_empty());
    }

    #[test]
    fn a_bad_one_is_named_with_what_is_allowed() {
        let refusal = |name, value| read(&[(name, value)]).unwrap_err().message;
        assert_eq!(
            refusal("filter", "cubic"),
            "setting 'filter' must be one of nearest, bilinear, bicubic, lanczos3, got 'cubic'"
        );
        assert_eq!(refusal("size", "300"), "setting 'size' is 300, more than the 256 that 'resize' leaves");
        assert_eq!(refusal("top_k", "0"), "setting 'top_k' must be at least 1, got 0");
        assert_eq!(
            refusal("resize", "big"),
            "setting 'resize' must be a whole number of at least 0, got 'big'"
        );
    }
}
