//! What the scenario found, as JSON and for a person.
//!
//! Owns the wording and the names of the JSON's fields, which are an interface.

use std::time::Duration;

use serde::Serialize;

use super::super::super::table::{Align, Table};
use super::super::super::text;
use super::super::args::{Arrival, BenchArgs};
use super::super::summary::{Measured, measured};
use super::case::{Case, Run, Stage, Trial};
use super::chart::{Picture, draw};
use super::series::Slice;

/// A generator busier than this may itself be the limit.
const BUSY: f64 = 0.9;

/// All settings and results.
#[derive(Debug, Serialize)]
pub(super) struct CaseReport {
    nuke_version: &'static str,
    scenario: &'static str,
    model: String,
    version: String,
    /// Cores that this process and the hosts share.
    cores: usize,
    max_workers: u32,
    rate_per_s: f64,
    /// Whether the rate was given.
    rate_given: bool,
    arrival: Arrival,
    seed: u64,
    warmup_s: f64,
    duration_s: f64,
    slow_ms: f64,
    fast_ms: f64,
    /// One request at a time, on average.
    alone_ms: f64,
    /// One worker without batching, in a closed loop.
    closed_per_s: Option<f64>,
    trials: Vec<Trial>,
    one_worker: RunReport,
    batching_and_scaling: RunReport,
    /// Whether the one took long enough, the other was fast enough, and no request failed.
    pub(super) shown: bool,
}

#[derive(Debug, Serialize)]
struct RunReport {
    /// The most workers that there were.
    workers: f64,
    /// Items of a run on average.
    batch: Option<f64>,
    measured: Measured,
    slices: Vec<Slice>,
}

/// Puts the report together.
pub(super) fn report(stage: &Stage<'_>, case: Case) -> CaseReport {
    let BenchArgs { scenario, load, .. } = stage.args;
    let failed = case.one.outcome.tally.failed() + case.both.outcome.tally.failed();
    let shown = case.one.mean() >= scenario.slow() && case.both.mean() <= scenario.fast() && failed == 0;
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    CaseReport {
        nuke_version: env!("CARGO_PKG_VERSION"),
        scenario: "scaling",
        model: stage.place.model.clone(),
        version: stage.place.version.clone(),
        cores: cores(),
        max_workers: stage.workers,
        rate_per_s: case.rate,
        rate_given: load.rate.is_some(),
        arrival: load.arrival.unwrap_or(Arrival::Poisson),
        seed: stage.args.seed(),
        warmup_s: load.warmup.as_secs_f64(),
        duration_s: load.duration.as_secs_f64(),
        slow_ms: milliseconds(scenario.slow()),
        fast_ms: milliseconds(scenario.fast()),
        alone_ms: milliseconds(case.alone),
        closed_per_s: case.closed_per_s,
        trials: case.trials,
        one_worker: run_report(case.one),
        batching_and_scaling: run_report(case.both),
        shown,
    }
}

/// The cores that this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

fn run_report(run: Run) -> RunReport {
    let measured = measured(&run.outcome, &run.plan.measured, true);
    RunReport { workers: run.most_workers, batch: run.batch, measured, slices: run.slices }
}

impl CaseReport {
    /// The whole report, ending in a line break.
    pub(super) fn show(&self) -> String {
        let arrival = format!("{:?}", self.arrival).to_lowercase();
        let mut shown = format!(
            "{} {}, open loop, {} requests/s ({arrival} gaps), {} each after {} of warm-up, {} cores\n",
            text::one_line(&self.model),
            text::one_line(&self.version),
            text::rate(self.rate_per_s),
            seconds(self.duration_s),
            seconds(self.warmup_s),
            self.cores
        );
        let closed = self.closed_per_s.map_or_else(String::new, |closed| {
            format!("; one worker without batching answers {}/s in a closed loop", text::rate(closed))
        });
        shown.push_str(&format!("one request alone takes {}{closed}\n\n", milliseconds(self.alone_ms)));
        shown.push_str(&self.table().render());
        shown.push('\n');
        for (name, run) in self.runs() {
            for line in self.remarks(run) {
                shown.push_str(&format!("{name}: {line}\n"));
            }
        }
        shown.push_str(&self.verdict());
        shown
    }

    /// The picture.
    pub(super) fn draw(&self) -> String {
        let arrival = format!("{:?}", self.arrival).to_lowercase();
        draw(&Picture {
            title: format!(
                "{} at {} requests/s: {} becomes {} on average",
                self.model,
                text::rate(self.rate_per_s),
                microseconds(self.one_worker.measured.main_times().mean_us),
                microseconds(self.batching_and_scaling.measured.main_times().mean_us)
            ),
            subtitle: format!(
                "open loop, {arrival} gaps, the same moments in both runs; up to {} workers on {} cores shared with \
                 the load generator; nuke {}",
                self.max_workers, self.cores, self.nuke_version
            ),
            one: &self.one_worker.slices,
            both: &self.batching_and_scaling.slices,
            length_s: self.duration_s,
            goals: [self.slow_ms, self.fast_ms]
                .map(|goal| Duration::try_from_secs_f64(goal / 1e3).unwrap_or_default()),
        })
    }

    fn runs(&self) -> [(&'static str, &RunReport); 2] {
        [("one worker, no batching", &self.one_worker), ("batching and scaling", &self.batching_and_scaling)]
    }

    fn table(&self) -> Table {
        let right = |name: &str| (name.to_owned(), Align::Right);
        let numbers = ["workers", "batch", "req/s", "mean", "p50", "p90", "p99", "max", "errors"];
        let columns = std::iter::once((String::new(), Align::Left)).chain(numbers.map(right));
        let mut table = Table::new(columns);
        for (name, run) in self.runs() {
            let times = run.measured.main_times();
            let mut row = vec![name.to_owned(), format!("{}", run.workers)];
            row.push(run.batch.map_or_else(|| "-".to_owned(), |batch| format!("{batch:.1}")));
            row.push(text::rate(run.measured.throughput_per_s));
            row.extend(
                [times.mean_us, times.p50_us, times.p90_us, times.p99_us, times.max_us].map(microseconds),
            );
            row.push(run.measured.failed.to_string());
            table.push(row);
        }
        table
    }

    fn remarks(&self, run: &RunReport) -> Vec<String> {
        let mut remarks = Vec::new();
        let measured = &run.measured;
        if let Some(error) = &measured.first_error {
            remarks.push(format!(
                "{} of {} requests failed, the first with: {error}",
                measured.failed, measured.requests
            ));
        }
        if let Some(busy) = measured.generator.busy_share.filter(|&busy| busy > BUSY) {
            remarks.push(format!(
                "the generator was busy for {:.0} % of its time: try --threads 2",
                busy * 100.0
            ));
        }
        let reached = measured.throughput_per_s / self.rate_per_s;
        if reached < 0.95 {
            remarks.push(format!(
                "answered {:.0} % of the rate: requests wait the longer the longer the run is",
                reached * 100.0
            ));
        }
        remarks
    }

    fn verdict(&self) -> String {
        let means = self.runs().map(|(_, run)| run.measured.main_times().mean_us / 1e3);
        let tail = microseconds(self.batching_and_scaling.measured.main_times().p99_us);
        let (slow, fast) = (milliseconds(self.slow_ms), milliseconds(self.fast_ms));
        let line = format!(
            "{} (at least {slow} asked for) become {} (at most {fast}), p99 {tail}",
            milliseconds(means[0]),
            milliseconds(means[1])
        );
        if self.shown { format!("shown: {line}\n") } else { format!("NOT shown: {line}\n") }
    }
}

fn seconds(count: f64) -> String {
    text::duration(Duration::try_from_secs_f64(count).unwrap_or_default())
}

fn milliseconds(count: f64) -> String {
    seconds(count / 1e3)
}

fn microseconds(count: f64) -> String {
    seconds(count / 1e6)
}
