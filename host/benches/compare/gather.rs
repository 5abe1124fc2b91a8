//! What it costs to put requests together into a batch: the copy of their inputs behind each other, beside the run.
//!
//! The same items run once as so many requests, which are gathered first, and once as a single request that is lent
//! to ONNX Runtime where it lies. The difference is what could be saved by gathering ahead or elsewhere.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nuke_host::model::tensor::Tensor;
use nuke_host::model::{ModelSession, SessionOptions};

use crate::report::Report;
use crate::stats::{Samples, timed};
use crate::{Outcome, places};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model
    #[arg(long, default_value = "models/image-classifier/1/model.onnx")]
    model: PathBuf,
    /// Requests of a batch, each of one item
    #[arg(long, default_value_t = 8)]
    requests: usize,
    /// How long
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
}

/// Runs both ways in turns.
pub(crate) fn measure(args: &Args) -> Outcome<Report> {
    let runtime = places::onnxruntime()?;
    let mut session = ModelSession::open(&runtime, &places::model(&args.model)?, &SessionOptions::default())?;
    let requests = args.requests.max(1);
    let (one, whole) = (halves(&session, 1)?, halves(&session, requests)?);
    let bytes: usize = whole.iter().map(|tensor| tensor.data.len()).sum();
    // Each request has memory of its own, as requests do.
    let copy = |tensor: &Tensor| Tensor { data: tensor.data.to_vec().into(), ..tensor.clone() };
    let apart: Vec<Vec<Tensor>> = (0..requests).map(|_| one.iter().map(copy).collect()).collect();
    let apart: Vec<&[Tensor]> = apart.iter().map(Vec::as_slice).collect();
    let wanted: Vec<usize> = (0..session.signature().outputs.len()).collect();
    let (mut gathered, mut lent) = (Samples::default(), Samples::default());
    let end = Instant::now() + Duration::try_from_secs_f64(args.seconds)?;
    while Instant::now() < end {
        let (outputs, took) = timed(|| session.run_batch(&apart, &wanted, None));
        outputs?;
        gathered.push(took);
        let (outputs, took) = timed(|| session.run_batch(&[&whole], &wanted, None));
        outputs?;
        lent.push(took);
    }
    let title = format!("{}: {requests} requests of one item, {bytes} bytes together", args.model.display());
    let mut report = Report::new(title);
    report.row("gathered and run", gathered.columns());
    report.row("run where it lies", lent.columns());
    let copied = Samples::of_copies(&apart, bytes);
    report.row("the copy alone", copied.columns());
    Ok(report)
}

/// The model's inputs as halves (0.5), so many items in each; other open dimensions are 1.
fn halves(session: &ModelSession, items: usize) -> Result<Vec<Tensor>, String> {
    let inputs = session.signature().inputs.iter().map(|spec| {
        let mut shape: Vec<usize> =
            spec.shape.iter().map(|&size| usize::try_from(size).unwrap_or(1)).collect();
        if let Some(first) = shape.first_mut() {
            *first = items;
        }
        let data = 0.5_f32.to_le_bytes().repeat(shape.iter().product());
        Tensor::new(spec.name.clone(), spec.datatype, shape, data).map_err(|error| error.to_string())
    });
    inputs.collect()
}

impl Samples {
    /// Copies all inputs of the requests into one place, as often as makes a median.
    fn of_copies(requests: &[&[Tensor]], bytes: usize) -> Self {
        let (mut samples, mut place) = (Self::default(), Vec::with_capacity(bytes));
        for _ in 0..200 {
            let ((), took) = timed(|| {
                place.clear();
                requests.iter().copied().flatten().for_each(|tensor| place.extend_from_slice(&tensor.data));
            });
            samples.push(took);
            std::hint::black_box(&place);
        }
        samples
    }
}
