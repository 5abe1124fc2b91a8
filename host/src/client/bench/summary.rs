//! The results of a run as numbers: what `--json` prints, and what the tables are made of.
//!
//! Owns the names of the JSON's fields, which are an interface. Header values are not in it: they
//! may be secrets.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::super::text;
use super::args::{Arrival, BenchArgs, Data, Encoding};
use super::phase::Pace;
use super::plan::Plan;
use super::request::Prepared;
use super::schedule::Limit;
use super::session::{Outcome, Row, per_second};
use super::tally::ErrorKind;

/// All settings and results.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The version of the program.
    pub(super) nuke_version: &'static str,
    /// What was done.
    pub(super) settings: Settings,
    /// What the times mean.
    pub(super) note: &'static str,
    /// Whether it was ended early.
    pub(super) interrupted: bool,
    /// One for each concurrency.
    pub(super) rows: Vec<RowReport>,
}

/// What was done.
#[derive(Debug, Serialize)]
pub(super) struct Settings {
    /// `closed` or `open`.
    pub(super) mode: &'static str,
    /// Requests a second of the open loop.
    pub(super) rate_per_s: Option<f64>,
    /// The gaps of the open loop.
    pub(super) arrival: Option<Arrival>,
    /// The request.
    pub(super) request: RequestReport,
    /// The request it is compared with.
    pub(super) baseline: Option<RequestReport>,
    /// `1.1` or `2`.
    pub(super) http: &'static str,
    /// Connections shared by the requests in flight, with h2.
    pub(super) http2_connections: Option<u32>,
    /// The generated tensors.
    pub(super) tensors: Vec<TensorReport>,
    /// How these travel.
    pub(super) encoding: Option<Encoding>,
    /// What is in them.
    pub(super) data: Option<Data>,
    /// Where random elements and gaps begin.
    pub(super) seed: u64,
    /// How many different requests there were, of `--infer`.
    pub(super) distinct: Option<u32>,
    /// How unevenly they came.
    pub(super) zipf: Option<f64>,
    /// How long each row was measured.
    pub(super) duration_s: Option<f64>,
    /// How many requests were measured in each row.
    pub(super) requests: Option<u64>,
    /// How long each row was warmed up.
    pub(super) warmup_s: f64,
    /// The most that one request may take.
    pub(super) timeout_s: f64,
    /// How long a turn is, with a baseline.
    pub(super) slice_s: Option<f64>,
    /// Threads that generate the load, at most.
    pub(super) threads: u32,
}

/// A request that was sent.
#[derive(Debug, Serialize)]
pub(super) struct RequestReport {
    /// The host.
    pub(super) url: String,
    /// The method.
    pub(super) method: String,
    /// Path and query string.
    pub(super) path: String,
    /// The names of its headers.
    pub(super) headers: Vec<String>,
    /// The body's length.
    pub(super) body_bytes: usize,
}

/// A generated tensor.
#[derive(Debug, Serialize)]
pub(super) struct TensorReport {
    name: String,
    datatype: &'static str,
    shape: Vec<usize>,
}

impl fmt::Display for TensorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", text::one_line(&self.name), self.datatype, self.shape)
    }
}

/// One concurrency.
#[derive(Debug, Serialize)]
pub(super) struct RowReport {
    /// The most requests in flight.
    pub(super) concurrency: u32,
    /// What was asked about.
    pub(super) measured: Measured,
    /// What it is compared with.
    pub(super) baseline: Option<Measured>,
    /// The comparison.
    pub(super) ratio: Option<Ratio>,
}

/// Measured over baseline.
#[derive(Debug, Serialize)]
pub(super) struct Ratio {
    /// Above 1: the measured had more throughput.
    pub(super) throughput: Option<f64>,
    /// Above 1: the measured took longer.
    pub(super) p50: Option<f64>,
    /// Of throughput, for each pair of turns: how far to trust it.
    pub(super) throughput_by_turn: Vec<f64>,
}

/// What was measured of one request.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    /// Requests that were to be sent.
    pub(super) requests: u64,
    /// Those with a success for an answer.
    pub(super) succeeded: u64,
    /// The others.
    pub(super) failed: u64,
    /// The others, by kind.
    pub(super) errors: BTreeMap<String, u64>,
    /// What the first of them said.
    pub(super) first_error: Option<String>,
    /// From the end of the warm-up to the last answer.
    pub(super) elapsed_s: f64,
    /// Successes a second.
    pub(super) throughput_per_s: f64,
    /// Bodies of requests.
    pub(super) sent_bytes_per_s: f64,
    /// Bodies of answers.
    pub(super) received_bytes_per_s: f64,
    /// Hits among the successes that say whether they came from a cache; none if none says so.
    pub(super) cache_hit_share: Option<f64>,
    /// From sending to the whole answer, of successes.
    pub(super) service_time: Times,
    /// From the intended moment to the whole answer, of successes; open loop only.
    pub(super) response_time: Option<Times>,
    /// What the generator did of its own.
    pub(super) generator: Generator,
}

impl Measured {
    /// The times that the mode is about.
    pub(super) const fn main_times(&self) -> &Times {
        match &self.response_time {
            Some(times) => times,
            None => &self.service_time,
        }
    }
}

/// Latencies in microseconds; 0 if there are none.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Times {
    pub(super) mean_us: f64,
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p95_us: f64,
    pub(super) p99_us: f64,
    pub(super) p99_9_us: f64,
    pub(super) max_us: f64,
}

/// What the generator did of its own.
#[derive(Debug, Serialize)]
pub(super) struct Generator {
    /// Processor time of its threads over the time they ran: near 1 it is itself the limit.
    pub(super) busy_share: Option<f64>,
    /// Time that its threads were ready but had no processor, over the time they ran: other work,
    /// the host's among it, kept them from sending and from seeing answers.
    pub(super) starved_share: Option<f64>,
    /// Connections that had to be made anew.
    pub(super) reconnects: u64,
    /// Open loop: how late requests were sent although a connection was idle.
    pub(super) lag: Option<Times>,
    /// Open loop: requests that found no idle connection.
    pub(super) waited: Option<u64>,
    /// Open loop: how long those waited.
    pub(super) wait: Option<Times>,
}

/// Puts the results of a run together.
pub(super) fn report(args: &BenchArgs, plan: &Plan, rows: &[Row], interrupted: bool) -> Report {
    let is_open = plan.pace != Pace::Closed;
    let note = if is_open { OPEN_NOTE } else { CLOSED_NOTE };
    let rows = rows.iter().map(|row| row_report(plan, row, is_open)).collect();
    let nuke_version = env!("CARGO_PKG_VERSION");
    Report { nuke_version, settings: settings(args, plan), note, interrupted, rows }
}

/// What a closed loop's times are not.
pub(super) const CLOSED_NOTE: &str = "closed loop: each client waits for its answer before it asks again, so \
    these are service times under that many clients; a stall holds back the requests behind it unseen \
    (coordinated omission), so for the tail at a given arrival rate use --rate";

/// What an open loop's times are.
pub(super) const OPEN_NOTE: &str = "open loop: response times count from the moment a request was to be sent, \
    waiting for a free connection and lateness of the generator included; service times count from the \
    moment it was sent";

fn settings(args: &BenchArgs, plan: &Plan) -> Settings {
    let is_infer = args.target.infer.is_some();
    let (mode, rate_per_s, arrival) = match plan.pace {
        Pace::Closed => ("closed", None, None),
        Pace::Open { rate, arrival } => ("open", Some(rate), Some(arrival)),
    };
    let (duration_s, requests) = match plan.limit {
        Limit::Time(duration) => (Some(duration.as_secs_f64()), None),
        Limit::Requests(requests) => (None, Some(requests)),
    };
    let tensor = |tensor: &crate::model::tensor::Tensor| TensorReport {
        name: tensor.name.clone(),
        datatype: tensor.datatype.as_str(),
        shape: tensor.shape.clone(),
    };
    Settings {
        mode,
        rate_per_s,
        arrival,
        request: request_report(&plan.measured),
        baseline: plan.baseline.as_ref().map(request_report),
        http: if plan.http2_connections.is_some() { "2" } else { "1.1" },
        http2_connections: plan.http2_connections,
        tensors: plan.tensors.iter().map(tensor).collect(),
        encoding: is_infer.then(|| args.tensors.encoding()),
        data: is_infer.then(|| args.tensors.data()),
        seed: plan.seed,
        distinct: args.tensors.distinct,
        zipf: args.tensors.zipf,
        duration_s,
        requests,
        warmup_s: plan.warmup.as_secs_f64(),
        timeout_s: plan.timeout.as_secs_f64(),
        slice_s: plan.baseline.is_some().then_some(plan.slice.as_secs_f64()),
        threads: plan.threads,
    }
}

fn request_report(prepared: &Prepared) -> RequestReport {
    RequestReport {
        url: prepared.host().to_string(),
        method: prepared.method().to_string(),
        path: prepared.path().to_owned(),
        headers: prepared.headers().keys().map(ToString::to_string).collect(),
        body_bytes: prepared.body_length(),
    }
}

fn row_report(plan: &Plan, row: &Row, is_open: bool) -> RowReport {
    let measured = measured(&row.measured, &plan.measured, is_open);
    let sides = row.baseline.as_ref().zip(plan.baseline.as_ref());
    let baseline = sides.map(|(outcome, prepared)| self::measured(outcome, prepared, is_open));
    let ratio = baseline.as_ref().map(|baseline| Ratio {
        throughput: ratio(measured.throughput_per_s, baseline.throughput_per_s),
        p50: ratio(measured.main_times().p50_us, baseline.main_times().p50_us),
        throughput_by_turn: row.turn_ratios.clone(),
    });
    RowReport { concurrency: row.concurrency, measured, baseline, ratio }
}

fn ratio(one: f64, other: f64) -> Option<f64> {
    (one > 0.0 && other > 0.0).then(|| one / other)
}

/// The figures of one request's outcome.
pub(super) fn measured(outcome: &Outcome, prepared: &Prepared, is_open: bool) -> Measured {
    let Outcome { tally, elapsed } = outcome;
    let sent_bytes = tally.sent().saturating_mul(prepared.body_length() as u64);
    let error = |(kind, count): (&ErrorKind, &u64)| (kind.to_string(), *count);
    Measured {
        requests: tally.succeeded() + tally.failed(),
        succeeded: tally.succeeded(),
        failed: tally.failed(),
        errors: tally.errors.iter().map(error).collect(),
        first_error: tally.first_error.clone(),
        elapsed_s: elapsed.as_secs_f64(),
        throughput_per_s: per_second(tally.succeeded(), *elapsed),
        sent_bytes_per_s: per_second(sent_bytes, *elapsed),
        received_bytes_per_s: per_second(tally.received, *elapsed),
        cache_hit_share: (tally.cached.0 > 0).then(|| tally.cached.1 as f64 / tally.cached.0 as f64),
        service_time: times(&tally.service),
        response_time: is_open.then(|| times(&tally.response)),
        generator: Generator {
            busy_share: tally.processor.and_then(|processor| share(processor.ran, tally.thread_time)),
            starved_share: tally.processor.and_then(|processor| share(processor.waited, tally.thread_time)),
            reconnects: tally.reconnects,
            lag: is_open.then(|| times(&tally.lag)),
            waited: is_open.then(|| tally.wait.len()),
            wait: is_open.then(|| times(&tally.wait)),
        },
    }
}

fn share(part: Duration, whole: Duration) -> Option<f64> {
    (!whole.is_zero()).then(|| part.as_secs_f64() / whole.as_secs_f64())
}

fn times(histogram: &Histogram<u64>) -> Times {
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Times {
        mean_us: if histogram.is_empty() { 0.0 } else { histogram.mean() / 1e3 },
        p50_us: at(0.5),
        p90_us: at(0.9),
        p95_us: at(0.95),
        p99_us: at(0.99),
        p99_9_us: at(0.999),
        max_us: histogram.max() as f64 / 1e3,
    }
}
