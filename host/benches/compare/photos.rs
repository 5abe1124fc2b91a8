//! The image pipeline as a native loop, one thread for each session: the baseline of `/predict`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nuke_host::model::{ModelSession, SessionOptions};

use crate::report::Report;
use crate::stats::{Samples, process_cpu, timed};
use crate::{Outcome, native, places};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The photo
    #[arg(long, default_value = "tests/fixtures/photos/coffee.png")]
    photo: PathBuf,
    /// The folder of the model and its labels
    #[arg(long, default_value = "models/image-classifier/1")]
    bundle: PathBuf,
    /// Threads, each with a session
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// How long
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
}

/// Where the time of a thread's photos went.
#[derive(Default)]
struct Spent {
    preprocess: Samples,
    run: Samples,
    postprocess: Samples,
    whole: Samples,
}

/// Classifies the photo over and over, as fast as it goes.
pub(crate) fn measure(args: &Args) -> Outcome<Report> {
    let runtime = places::onnxruntime()?;
    let model = places::model(&args.bundle.join("model.onnx"))?;
    let labels = native::labels(&places::read(&args.bundle.join("labels.txt"))?)?;
    let photo = places::read(&args.photo)?;
    let threads = args.threads.max(1);
    let sessions = (0..threads)
        .map(|_| ModelSession::open(&runtime, &model, &SessionOptions::default()))
        .collect::<Result<Vec<_>, _>>()?;
    let duration = Duration::try_from_secs_f64(args.seconds)?;
    let (photo, labels) = (photo.as_slice(), labels.as_slice());
    let (started, cpu) = (Instant::now(), process_cpu());
    let spent: Result<Vec<Spent>, String> = std::thread::scope(|scope| {
        let work =
            |session| move || classify(session, photo, labels, duration).map_err(|error| error.to_string());
        let threads: Vec<_> = sessions.into_iter().map(|session| scope.spawn(work(session))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?).collect()
    });
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = process_cpu().zip(cpu).map_or(0.0, |(after, before)| (after - before).as_secs_f64());
    let mut all = Spent::default();
    for mut thread in spent? {
        all.preprocess.append(&mut thread.preprocess);
        all.run.append(&mut thread.run);
        all.postprocess.append(&mut thread.postprocess);
        all.whole.append(&mut thread.whole);
    }
    let count = all.whole.len() as f64;
    let mut report =
        Report::new(format!("{} to labels, native, {threads} thread(s)", places::name(&args.photo)));
    let rates = [("per_s", count / elapsed), ("cpu_us", cpu / count * 1e6)];
    report.row("photo to labels", all.whole.columns().into_iter().chain(rates));
    report.row("preprocess", all.preprocess.columns());
    report.row("Session::run", all.run.columns());
    report.row("postprocess", all.postprocess.columns());
    Ok(report)
}

fn classify(
    mut session: ModelSession,
    photo: &[u8],
    labels: &[String],
    duration: Duration,
) -> Outcome<Spent> {
    let mut spent = Spent::default();
    let end = Instant::now() + duration;
    while Instant::now() < end {
        let started = Instant::now();
        let (input, took) = timed(|| native::preprocess(photo));
        spent.preprocess.push(took);
        let input = [input?];
        let (outputs, took) = timed(|| session.run(&input, &[0]));
        spent.run.push(took);
        let (answer, took) = timed(|| native::postprocess(&outputs?[0], labels, 5));
        spent.postprocess.push(took);
        std::hint::black_box(answer?);
        spent.whole.push(started.elapsed());
    }
    Ok(spent)
}
