//! Preprocessing a photo three ways in turn: native, by the plugin with the host's kernels, and by the
//! plugin in pure WebAssembly. The tensors must be equal, byte by byte, or nothing is reported.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nuke_host::config::Capability;
use nuke_host::plugin::{BundleContext, Plugin, PluginEngine, PluginLimits, PluginRequest, PluginSource};

use crate::report::Report;
use crate::stats::{Samples, timed};
use crate::{Outcome, calls, native, places};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The photos
    #[arg(long = "photo", default_values = ["tests/fixtures/photos/coffee.png", "tests/fixtures/photos/rocket.jpg"])]
    photos: Vec<PathBuf>,
    /// The folder of built plugins
    #[arg(long, default_value = "target/plugins")]
    plugins: PathBuf,
    /// The folder of the labels
    #[arg(long, default_value = "models/image-classifier/1")]
    bundle: PathBuf,
    /// Runs of each way
    #[arg(long, default_value_t = 300)]
    runs: usize,
}

const WARM_UP: usize = 20;
const HOST_KERNELS: &str = "image-classify";
const PURE_WASM: &str = "image-classify-wasm";

/// Measures every photo three ways.
pub(crate) fn measure(args: &Args) -> Outcome<Report> {
    let engine = calls::engine()?;
    let labels: Bytes = places::read(&args.bundle.join("labels.txt"))?.into();
    let load = |name: &str| load(&engine, &args.plugins.join(name), name, &labels);
    let plugins = [(HOST_KERNELS, load(HOST_KERNELS)?), (PURE_WASM, load(PURE_WASM)?)];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::new("Preprocessing, CPU time of one photo");
    for path in &args.photos {
        let photo: Bytes = places::read(path)?.into();
        let [native, others @ ..] = runtime.block_on(in_turns(&plugins, &photo, args.runs))?;
        report.row(format!("{} native", places::name(path)), columns(&native, &native));
        for ((name, _), samples) in plugins.iter().zip(&others) {
            report.row(format!("{} {name}", places::name(path)), columns(samples, &native));
        }
    }
    Ok(report)
}

fn columns(samples: &Samples, native: &Samples) -> impl Iterator<Item = (&'static str, f64)> {
    let ratios = [
        ("best_ratio", samples.best() / native.best()),
        ("median_ratio", samples.median() / native.median()),
    ];
    samples.columns().into_iter().chain(ratios)
}

/// Native, then each plugin, over and over, so that what slows the machine down slows all of them.
async fn in_turns(plugins: &[(&str, Plugin); 2], photo: &Bytes, runs: usize) -> Outcome<[Samples; 3]> {
    let mut samples = [Samples::default(), Samples::default(), Samples::default()];
    for run in 0..WARM_UP + runs {
        let (expected, took) = timed(|| native::preprocess(photo));
        let expected = expected?;
        let mut all: [Duration; 3] = [took, Duration::ZERO, Duration::ZERO];
        for ((name, plugin), took) in plugins.iter().zip(&mut all[1..]) {
            let request = PluginRequest { body: photo.clone(), ..PluginRequest::default() };
            let called = plugin.preprocess(request).await;
            if called.outcome?.tensors.first().map(|tensor| &tensor.data) != Some(&expected.data) {
                return Err(format!("{name}: the tensor is not the native one").into());
            }
            *took = called.cpu;
        }
        if run >= WARM_UP {
            for (samples, took) in samples.iter_mut().zip(all) {
                samples.push(took);
            }
        }
    }
    Ok(samples)
}

/// The one version of a plugin in its folder, with the labels as its bundle.
fn load(engine: &Arc<PluginEngine>, folder: &Path, name: &str, labels: &Bytes) -> Outcome<Plugin> {
    let folder = if folder.is_dir() { folder.to_owned() } else { places::in_checkout("").join(folder) };
    let missing = || format!("no built plugin in {}; run `cargo xtask plugins`", folder.display());
    let versions = std::fs::read_dir(&folder).map_err(|_| missing())?;
    let component =
        versions.filter_map(|entry| Some(entry.ok()?.path().join("plugin.wasm"))).find(|path| path.is_file());
    let files = [("labels.txt".to_owned(), (labels.len() as u64, Some(labels.clone())))];
    let allowed = vec![Capability::Logging, Capability::Bundle, Capability::Image];
    let source = PluginSource {
        component: places::read(&component.ok_or_else(missing)?)?.into(),
        declared: allowed.clone(),
        allowed,
        bundle: BundleContext {
            model: "image-classifier".to_owned(),
            version: "1".to_owned(),
            plugin: name.to_owned(),
            files: files.into(),
            settings: vec![("top_k".to_owned(), "5".to_owned())],
        },
        limits: PluginLimits::default(),
    };
    Ok(Plugin::load(engine, source)?)
}
