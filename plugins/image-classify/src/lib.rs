//! A photo in, labels out: JPEG, PNG or WebP to the input of an image classifier, and its scores to the
//! `k` most probable labels as JSON:
//!
//! ```json
//! {"predictions":[{"label":"espresso","index":967,"probability":0.95}]}
//! ```
//!
//! The request's parameter `k` says how many. What the model expects is in the bundle's `settings:`
//! ([`settings::Settings`]), its labels in `labels.txt`, a line each.
//!
//! There are two builds that share all but the decoder ([`decoder`]): `host-image` (the default) calls the
//! host's kernels, `wasm-decode` carries them along and needs no capability.

pub mod decoder;
mod labels;
mod prepare;
mod ranking;
pub mod settings;

use nuke_plugin_sdk::{
    Context, DataType, Error, Outputs, Parameters, Plugin, Preprocessed, Request, Response, Result,
    ResultExt, Tensor, bundle, ensure, export_plugin, log,
};

use crate::settings::Settings;

/// The plugin: settings and labels, parsed once per instance.
#[derive(Debug)]
pub struct ImageClassify {
    settings: Settings,
    labels: Vec<String>,
    top_k: usize,
}

/// How many labels to answer with if neither request nor bundle says, and there are as many.
const DEFAULT_TOP_K: usize = 5;

export_plugin!(ImageClassify);

impl Plugin for ImageClassify {
    fn new() -> Result<Self> {
        let settings = Settings::read(&bundle::settings())?;
        let labels = labels::parse(&settings.labels, &bundle::text(&settings.labels)?)?;
        let top_k = settings.top_k.unwrap_or(DEFAULT_TOP_K.min(labels.len()));
        ensure!(
            top_k <= labels.len(),
            internal,
            "setting 'top_k' is {top_k}, but {} has only {} labels",
            settings.labels,
            labels.len()
        );
        log::debug!("ready to classify", labels = labels.len(), decoder = decoder::NAME);
        Ok(Self { settings, labels, top_k })
    }

    fn preprocess(&self, request: Request) -> Result<Preprocessed> {
        // A bad `k` is refused before the model has worked for nothing.
        let k = self.wanted(&request.parameters)?;
        let input = prepare::input(&request, &self.settings)?;
        Ok(Preprocessed::from(input).with_context(Context(k.to_le_bytes().to_vec())))
    }

    fn postprocess(&self, outputs: Outputs, context: Context, _: Parameters) -> Result<Response> {
        let k = <[u8; 4]>::try_from(context.0.as_slice()).map(u32::from_le_bytes).map_err(|_| {
            Error::internal(format!("the context has {} bytes, not the 4 of preprocess", context.0.len()))
        })?;
        let scores = match &self.settings.output {
            Some(name) => outputs.get(name)?,
            None => outputs.first(DataType::Fp32)?,
        };
        let classes = scores.as_f32()?;
        ensure_one_row(scores)?;
        ensure!(
            classes.len() == self.labels.len(),
            internal,
            "output '{}' has {} classes, but {} has {} labels",
            scores.name,
            classes.len(),
            self.settings.labels,
            self.labels.len()
        );
        let ranked = ranking::top(&classes, k as usize).context(format!("output '{}'", scores.name))?;
        Response::json(&ranking::Predictions { ranked: &ranked, labels: &self.labels })
    }
}

impl ImageClassify {
    /// How many labels the request asks for.
    fn wanted(&self, parameters: &Parameters) -> Result<u32> {
        let k = parameters.get::<usize>("k")?.unwrap_or(self.top_k);
        let classes = self.labels.len();
        ensure!(k > 0 && k <= classes, invalid, "parameter 'k' must be from 1 to {classes}, got {k}");
        u32::try_from(k).or_invalid(format!("parameter 'k' of {k}"))
    }
}

/// Scores of one picture: `[classes]` or `[1, classes]`, with any number of further ones (`[1, n, 1, 1]`).
fn ensure_one_row(scores: &Tensor) -> Result<()> {
    let rows = if scores.shape.len() > 1 { scores.shape[0] } else { 1 };
    ensure!(
        rows == 1,
        internal,
        "output '{}' has shape {:?}: one picture takes one row, not {rows}",
        scores.name,
        scores.shape
    );
    Ok(())
}
