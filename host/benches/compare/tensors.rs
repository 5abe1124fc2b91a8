//! A loop around model sessions, one for each thread: the floor under `/v2/models/…/infer`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nuke_host::model::tensor::Tensor;
use nuke_host::model::{ModelSession, SessionOptions};

use crate::report::Report;
use crate::stats::{Samples, process_cpu, timed};
use crate::{Outcome, places};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model
    #[arg(long, default_value = "tests/fixtures/models/tiny/1/model.onnx")]
    model: PathBuf,
    /// Threads, each with a session
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// How long
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// Runs the model over and over on halves (0.5), as fast as it goes.
pub(crate) fn measure(args: &Args) -> Outcome<Report> {
    let runtime = places::onnxruntime()?;
    let model = places::model(&args.model)?;
    let sessions =
        (0..args.threads.max(1)).map(|_| ModelSession::open(&runtime, &model, &SessionOptions::default()));
    let sessions = sessions.collect::<Result<Vec<_>, _>>()?;
    let duration = Duration::try_from_secs_f64(args.seconds)?;
    let (started, cpu) = (Instant::now(), process_cpu());
    let runs: Result<Vec<Samples>, String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            sessions.into_iter().map(|session| scope.spawn(move || run(session, duration))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?).collect()
    });
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = process_cpu().zip(cpu).map_or(0.0, |(after, before)| (after - before).as_secs_f64());
    let mut all = Samples::default();
    for mut samples in runs? {
        all.append(&mut samples);
    }
    let count = all.len() as f64;
    let mut report =
        Report::new(format!("{} in a loop, {} thread(s)", args.model.display(), args.threads.max(1)));
    let rates = [("per_s", count / elapsed), ("cpu_us", cpu / count * 1e6)];
    report.row("Session::run", all.columns().into_iter().chain(rates));
    Ok(report)
}

fn run(mut session: ModelSession, duration: Duration) -> Result<Samples, String> {
    let inputs = halves(&session)?;
    let wanted: Vec<usize> = (0..session.signature().outputs.len()).collect();
    let mut samples = Samples::default();
    let end = Instant::now() + duration;
    while Instant::now() < end {
        let (outputs, took) = timed(|| session.run(&inputs, &wanted));
        outputs.map_err(|error| error.to_string())?;
        samples.push(took);
    }
    Ok(samples)
}

/// The model's FP32 inputs, open dimensions 1.
fn halves(session: &ModelSession) -> Result<Vec<Tensor>, String> {
    let inputs = session.signature().inputs.iter().map(|spec| {
        let shape: Vec<usize> = spec.shape.iter().map(|&size| usize::try_from(size).unwrap_or(1)).collect();
        let data = 0.5_f32.to_le_bytes().repeat(shape.iter().product());
        Tensor::new(spec.name.clone(), spec.datatype, shape, data).map_err(|error| error.to_string())
    });
    inputs.collect()
}
