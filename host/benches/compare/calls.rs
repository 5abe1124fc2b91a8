//! What a call into a plugin costs by itself: with nothing to do, with 600 kB each way, with an instance
//! made for it. The plugins are the tests' `echo-context` and `tensor-600k`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nuke_host::model::tensor::{DataType, Tensor};
use nuke_host::plugin::{
    BundleContext, EngineOptions, Plugin, PluginEngine, PluginLimits, PluginRequest, PluginSource,
};
use nuke_tests::components;

use crate::Outcome;
use crate::report::Report;
use crate::stats::{Samples, timed};

/// How much to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Calls of each kind
    #[arg(long, default_value_t = 5000)]
    calls: usize,
}

/// FP32 [1, 3, 224, 224].
const SHAPE: [usize; 4] = [1, 3, 224, 224];
const BYTES: usize = 602_112;
/// Calls of each kind before the first that counts, as a share of those.
const WARM_UP_SHARE: usize = 10;

/// The engine as the host has it on this machine, without a compile cache.
pub(crate) fn engine() -> Outcome<Arc<PluginEngine>> {
    let options = EngineOptions {
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        pooling: None,
        memory: PluginLimits::default().memory,
        compile_cache: None,
        image_files: true,
    };
    Ok(Arc::new(PluginEngine::new(&options)?))
}

/// CPU time in the guest, and the whole call as its caller sees it.
#[derive(Default)]
struct Cost {
    cpu: Samples,
    whole: Samples,
}

/// Measures each kind of call.
pub(crate) fn measure(args: &Args) -> Outcome<Report> {
    let engine = engine()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let fresh = PluginLimits { calls_per_instance: 1, ..PluginLimits::default() };
    let small = Bytes::from_static(b"16 bytes of text");
    let large = Bytes::from(vec![1_u8; BYTES]);
    let outputs = [Tensor::new("y", DataType::Fp32, SHAPE.to_vec(), large.clone())?];

    let warm_empty = load(&engine, "echo-context", PluginLimits::default())?;
    let fresh_empty = load(&engine, "echo-context", fresh.clone())?;
    let warm_large = load(&engine, "tensor-600k", PluginLimits::default())?;
    let fresh_large = load(&engine, "tensor-600k", fresh)?;
    let mut report = Report::new("A call into a plugin (whole: as its caller sees it, thread hop included)");
    row(&mut report, "empty, warm", &runtime.block_on(preprocess(&warm_empty, &small, args.calls))?);
    row(
        &mut report,
        "empty, fresh instance",
        &runtime.block_on(preprocess(&fresh_empty, &small, args.calls))?,
    );
    let fewer = args.calls / 5;
    row(&mut report, "600 kB in and out, warm", &runtime.block_on(preprocess(&warm_large, &large, fewer))?);
    row(
        &mut report,
        "600 kB in and out, fresh instance",
        &runtime.block_on(preprocess(&fresh_large, &large, fewer))?,
    );
    row(
        &mut report,
        "600 kB tensor in (postprocess), warm",
        &runtime.block_on(postprocess(&warm_large, &outputs, fewer))?,
    );
    row(&mut report, "nothing, on another runtime's thread", &runtime.block_on(hop(args.calls))?);
    row(&mut report, "copying 600 kB twice", &copy(&large, fewer));
    Ok(report)
}

fn row(report: &mut Report, name: &str, cost: &Cost) {
    let whole = [("whole_median_us", cost.whole.median()), ("whole_p95_us", cost.whole.quantile(0.95))];
    report.row(name, cost.cpu.columns().into_iter().chain(whole));
}

async fn preprocess(plugin: &Plugin, body: &Bytes, calls: usize) -> Outcome<Cost> {
    let mut cost = Cost::default();
    for call in 0..calls + calls / WARM_UP_SHARE {
        let request = PluginRequest { body: body.clone(), ..PluginRequest::default() };
        let started = Instant::now();
        let called = plugin.preprocess(request).await;
        cost.count(call >= calls / WARM_UP_SHARE, started.elapsed(), called.cpu);
        called.outcome?;
    }
    Ok(cost)
}

async fn postprocess(plugin: &Plugin, outputs: &[Tensor; 1], calls: usize) -> Outcome<Cost> {
    let mut cost = Cost::default();
    for call in 0..calls + calls / WARM_UP_SHARE {
        let started = Instant::now();
        let called = plugin.postprocess(outputs.to_vec(), Bytes::new(), Arc::new([])).await;
        cost.count(call >= calls / WARM_UP_SHARE, started.elapsed(), called.cpu);
        called.outcome?;
    }
    Ok(cost)
}

impl Cost {
    fn count(&mut self, counts: bool, whole: Duration, cpu: Duration) {
        if counts {
            self.whole.push(whole);
            self.cpu.push(cpu);
        }
    }
}

/// The price of having work done on a thread of another runtime and waiting for it.
async fn hop(calls: usize) -> Outcome<Cost> {
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let mut cost = Cost::default();
    for _ in 0..calls {
        let started = Instant::now();
        let took = other.spawn(async { timed(|| ()).1 }).await?;
        cost.whole.push(started.elapsed());
        cost.cpu.push(took);
    }
    other.shutdown_background();
    Ok(cost)
}

/// Two copies into memory that is there already, as the instance's and the host's mostly are.
fn copy(bytes: &Bytes, calls: usize) -> Cost {
    let (mut cost, mut there, mut back) = (Cost::default(), bytes.to_vec(), bytes.to_vec());
    for _ in 0..calls {
        let ((), took) = timed(|| {
            std::hint::black_box(&mut there).copy_from_slice(bytes);
            std::hint::black_box(&mut back).copy_from_slice(&there);
        });
        cost.cpu.push(took);
        cost.whole.push(took);
    }
    cost
}

fn load(engine: &Arc<PluginEngine>, name: &str, limits: PluginLimits) -> Outcome<Plugin> {
    let source = PluginSource {
        component: components::build(name).into(),
        declared: Vec::new(),
        allowed: Vec::new(),
        bundle: BundleContext { plugin: name.to_owned(), ..BundleContext::default() },
        limits,
    };
    Ok(Plugin::load(engine, source)?)
}
