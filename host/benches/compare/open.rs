//! Loading ONNX Runtime and opening sessions: what of a start is not the host's. Each happens once, so
//! that a fresh process is needed for another sample.

use std::path::PathBuf;

use nuke_host::model::{ModelSession, SessionOptions};

use crate::report::Report;
use crate::stats::timed;
use crate::{Outcome, places};

/// What to open.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The models
    #[arg(long = "model", default_values = ["models/image-classifier/1/model.onnx", "models/digits/1/model.onnx"])]
    models: Vec<PathBuf>,
    /// Sessions of each
    #[arg(long, default_value_t = 1)]
    sessions: usize,
}

/// Opens all of it once.
pub(crate) fn measure(args: &Args) -> Outcome<Report> {
    let mut report = Report::new("Opening");
    let (runtime, took) = timed(places::onnxruntime);
    let runtime = runtime?;
    report.row("ONNX Runtime", [("took_ms", took.as_secs_f64() * 1e3)]);
    for path in &args.models {
        let model = places::model(path)?;
        let open = || {
            (0..args.sessions)
                .map(|_| ModelSession::open(&runtime, &model, &SessionOptions::default()))
                .collect::<Result<Vec<_>, _>>()
        };
        let (opened, took) = timed(open);
        drop(opened?);
        report.row(path.display().to_string(), [("took_ms", took.as_secs_f64() * 1e3)]);
    }
    Ok(report)
}
