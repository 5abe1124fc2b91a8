//! The runs of the scenario: finding the rate, and the same rate with and without batching and scaling.
//!
//! Owns their order and what each host is told. Both get the same requests at the same moments, by a schedule
//! that waits for no answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use std::cell::Cell;

use super::super::super::error::ClientError;
use super::super::args::{Arrival, BenchArgs, TargetArgs};
use super::super::phase::{Pace, Phase, run};
use super::super::plan::{self, Plan};
use super::super::progress::Progress;
use super::super::schedule::Limit;
use super::super::session::{Outcome, per_second, probe};
use super::super::tally::Tally;
use super::own_host::OwnHost;
use super::samples::{Sample, Sampler};
use super::series::{Slice, slices};
use super::workplace::Workplace;

/// Requests that are sent one by one at first.
const ALONE: u64 = 25;
/// Requests in flight while the throughput of one worker is looked for.
const SATURATED: u32 = 16;
/// Rates that are tried, as parts of that throughput.
const LADDER: [f64; 7] = [0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0];
/// The rate is that near to one at which the worker was quick, in a short run.
const NEAR: f64 = 1.04;
/// The longest that a rate is tried.
const LONGEST_TRIAL: Duration = Duration::from_secs(5);
/// How often it is raised if it was too low in a long one.
const RAISES: usize = 8;
/// Stretches of time that are told apart.
const SLICES: usize = 60;
/// Nobody is to be refused: what is compared is how long they wait.
const QUEUE: &str = "queue: {size: 1000000, timeout: 10m}\n";

/// A rate that was tried, and what one worker made of it.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(super) struct Trial {
    pub(super) rate_per_s: f64,
    pub(super) mean_ms: f64,
}

/// One of the two runs.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) plan: Plan,
    pub(super) outcome: Outcome,
    pub(super) slices: Vec<Slice>,
    pub(super) most_workers: f64,
    /// Items of a run, on average.
    pub(super) batch: Option<f64>,
}

impl Run {
    pub(super) fn mean(&self) -> Duration {
        mean(&self.outcome.tally)
    }
}

/// All that was found.
#[derive(Debug)]
pub(super) struct Case {
    /// One request at a time, on average.
    pub(super) alone: Duration,
    /// Requests a second of one worker without batching, in a closed loop.
    pub(super) closed_per_s: Option<f64>,
    pub(super) trials: Vec<Trial>,
    pub(super) rate: f64,
    pub(super) one: Run,
    pub(super) both: Run,
}

/// What the runs have in common.
pub(super) struct Stage<'a> {
    pub(super) args: &'a BenchArgs,
    pub(super) place: &'a Workplace,
    pub(super) workers: u32,
    pub(super) stop: &'a Arc<AtomicBool>,
}

impl Stage<'_> {
    /// Runs everything; `None` if it was ended early.
    ///
    /// # Errors
    /// [`ClientError`] if a host does not come up or the case cannot be made.
    pub(super) fn play(&self) -> Result<Option<Case>, ClientError> {
        self.place.set(&format!("workers: {{min: 1, max: 1}}\nbatching: {{max_batch_size: 1}}\n{QUEUE}"))?;
        let host = OwnHost::start(self.place, self.stop)?;
        let plan = self.plan(&host)?;
        let alone = mean(&self.closed(&plan, 1, Limit::Requests(ALONE))?);
        self.check_alone(alone)?;
        let mut trials = Vec::new();
        let (closed_per_s, found) = match self.args.load.rate {
            Some(rate) => (None, Some((rate, self.measured(&host, plan, rate)?))),
            None => {
                let closed = self.throughput(&plan)?;
                (Some(closed), self.find(&host, &plan, closed, &mut trials)?)
            }
        };
        drop(host);
        if self.is_stopped() {
            return Ok(None);
        }
        let (rate, one) = found.ok_or_else(|| unreachable_rate(&trials, self.args.scenario.slow()))?;
        self.place.set(&format!("workers: {{min: 1, max: {}}}\n{QUEUE}", self.workers))?;
        let host = OwnHost::start(self.place, self.stop)?;
        let plan = self.plan(&host)?;
        let both = self.measured(&host, plan, rate)?;
        if self.is_stopped() {
            return Ok(None);
        }
        Ok(Some(Case { alone, closed_per_s, trials, rate, one, both }))
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The request to the host's model, tried once.
    fn plan(&self, host: &OwnHost) -> Result<Plan, ClientError> {
        let mut args = self.args.clone();
        args.url = host.url().clone();
        args.scenario = super::args::ScenarioArgs::default();
        (args.load.rate, args.load.arrival) = (None, None);
        args.target = TargetArgs { infer: Some(self.place.model.clone()), ..TargetArgs::default() };
        let plan = plan::make(&args)?;
        probe(&plan, false)?;
        Ok(plan)
    }

    /// One request must be well below what is aimed at, or no batching can make the case.
    fn check_alone(&self, alone: Duration) -> Result<(), ClientError> {
        let fast = self.args.scenario.fast();
        if alone <= fast / 2 || self.is_stopped() {
            return Ok(());
        }
        Err(ClientError::Usage(format!(
            "one request alone takes {alone:.1?} on average: with others at it none can be answered within \
             {fast:?}; give --fast and --slow more, or take another --model"
        )))
    }

    /// What one worker bears, by as many clients as keep it busy.
    fn throughput(&self, plan: &Plan) -> Result<f64, ClientError> {
        let tally = self.closed(plan, SATURATED, Limit::Time(self.trial()))?;
        let elapsed = tally.last_finished.saturating_sub(self.warmup());
        let closed = per_second(tally.succeeded(), elapsed);
        if closed > 0.0 || self.is_stopped() {
            return Ok(closed);
        }
        let reason = tally.first_error.unwrap_or_else(|| "no answer came".to_owned());
        Err(ClientError::Usage(format!("the rate cannot be found: {reason}")))
    }

    /// Climbs until the one worker takes as long as asked for, comes nearer to where that begins, and measures
    /// there.
    fn find(
        &self,
        host: &OwnHost,
        plan: &Plan,
        closed: f64,
        trials: &mut Vec<Trial>,
    ) -> Result<Option<(f64, Run)>, ClientError> {
        let slow = self.args.scenario.slow();
        let mut is_slow = |rate: f64| {
            let tally = self.try_rate(plan, rate)?;
            trials.push(Trial { rate_per_s: rate, mean_ms: mean(&tally).as_secs_f64() * 1e3 });
            Ok::<_, ClientError>(mean(&tally) >= slow)
        };
        let (mut quick, mut found) = (closed * LADDER[0] / 2.0, None);
        for part in LADDER {
            if is_slow(closed * part)? {
                found = Some(closed * part);
                break;
            }
            quick = closed * part;
        }
        let Some(mut rate) = found else {
            return Ok(None);
        };
        while rate / quick > NEAR && !self.is_stopped() {
            let middle = f64::midpoint(quick, rate);
            *(if is_slow(middle)? { &mut rate } else { &mut quick }) = middle;
        }
        // A short run is not a long one: chance may have it that the rate is still too low.
        for _ in 0..RAISES {
            let one = self.measured(host, plan.clone(), rate)?;
            if one.mean() >= slow || self.is_stopped() {
                return Ok(Some((rate, one)));
            }
            trials.push(Trial { rate_per_s: rate, mean_ms: one.mean().as_secs_f64() * 1e3 });
            rate *= NEAR;
        }
        Ok(None)
    }

    /// A short run.
    fn try_rate(&self, plan: &Plan, rate: f64) -> Result<Tally, ClientError> {
        let length = self.trial();
        let phase = self.phase(plan, rate, length);
        let warmup = phase.warmup.min(length / 2);
        self.load(&Phase { warmup, ..phase }, &format!("looking for the rate: {rate:.0}/s"), None)
    }

    fn measured(&self, host: &OwnHost, plan: Plan, rate: f64) -> Result<Run, ClientError> {
        let phase = self.phase(&plan, rate, self.args.load.duration);
        let label = format!("{rate:.0} requests/s");
        let (begun, sampler) = (Cell::new(None), Sampler::start(host.url()));
        let tally = self.load(&phase, &label, Some(&begun));
        let samples = sampler.finish();
        let tally = tally?;
        let length_s = self.args.load.duration.as_secs_f64();
        let points = tally.points.as_deref().unwrap_or_default();
        let mut cut = slices(points, phase.warmup.as_secs_f64(), length_s, SLICES);
        let measured_from = begun.get().map(|begun| begun + phase.warmup);
        if let Some(from) = measured_from {
            annotate(&mut cut, &samples, from, length_s / SLICES as f64);
        }
        let elapsed = tally.last_finished.saturating_sub(phase.warmup);
        let most_workers = samples.iter().map(|sample| sample.workers).fold(1.0, f64::max);
        let during: Vec<_> =
            samples.iter().filter(|sample| Some(sample.at) >= measured_from).copied().collect();
        let batch = during.first().zip(during.last()).and_then(|(first, last)| batch(first, last));
        Ok(Run { plan, outcome: Outcome { tally, elapsed }, slices: cut, most_workers, batch })
    }

    fn closed(&self, plan: &Plan, concurrency: u32, limit: Limit) -> Result<Tally, ClientError> {
        let phase = self.phase(plan, 1.0, self.trial());
        let phase = Phase { pace: Pace::Closed, concurrency, limit, ..phase };
        self.load(&phase, &format!("one worker, {concurrency} at once"), None)
    }

    fn phase(&self, plan: &Plan, rate: f64, length: Duration) -> Phase {
        let load = &self.args.load;
        // As many as arrive while one waits as long as that: their waiting is then the host's to shorten.
        let waiting = rate * self.args.scenario.slow().as_secs_f64() * 2.0;
        let concurrency = load.concurrency.first().copied().unwrap_or(waiting.clamp(64.0, 512.0) as u32);
        Phase {
            prepared: plan.measured.clone(),
            pace: Pace::Open { rate, arrival: load.arrival.unwrap_or(Arrival::Poisson) },
            seed: plan.seed,
            concurrency,
            http2_connections: None,
            threads: plan.threads,
            warmup: self.warmup(),
            limit: Limit::Time(length),
            timeout: plan.timeout,
            keeps_points: true,
        }
    }

    fn load(
        &self,
        phase: &Phase,
        label: &str,
        begun: Option<&Cell<Option<Instant>>>,
    ) -> Result<Tally, ClientError> {
        let progress = Progress::new(std::iter::once((phase.warmup, phase.limit)));
        run(phase, self.stop, |shared| {
            progress.tick(shared, label);
            if let Some(begun) = begun {
                begun.set(shared.start.get().copied());
            }
        })
    }

    fn warmup(&self) -> Duration {
        self.args.load.warmup
    }

    /// How long a rate is tried.
    fn trial(&self) -> Duration {
        (self.args.load.duration / 3).clamp(Duration::from_millis(200), LONGEST_TRIAL)
    }
}

fn mean(tally: &Tally) -> Duration {
    if tally.response.is_empty() {
        return Duration::ZERO;
    }
    Duration::try_from_secs_f64(tally.response.mean() / 1e9).unwrap_or_default()
}

/// Items of a run between two looks; `None` if none ended.
fn batch(first: &Sample, last: &Sample) -> Option<f64> {
    let runs = last.runs - first.runs;
    (runs > 0.0).then(|| (last.items - first.items) / runs)
}

/// Adds what the host said to the slices that it said it in; slices are `width_s` long.
fn annotate(slices: &mut [Slice], samples: &[Sample], from: Instant, width_s: f64) {
    for slice in slices {
        let end = from + Duration::try_from_secs_f64(slice.at_s + width_s / 2.0).unwrap_or_default();
        let after = samples.iter().position(|sample| sample.at >= end);
        let last = after.unwrap_or(samples.len().saturating_sub(1));
        let (before, last) = (samples.get(last.saturating_sub(1)), samples.get(last));
        slice.workers = last.map(|sample| sample.workers);
        slice.batch = before.zip(last).and_then(|(before, last)| batch(before, last));
    }
}

fn unreachable_rate(trials: &[Trial], slow: Duration) -> ClientError {
    let tried = trials.last().map_or_else(
        || "no rate was tried".to_owned(),
        |trial| format!("at {:.0} requests/s it took {:.1} ms", trial.rate_per_s, trial.mean_ms),
    );
    ClientError::Usage(format!(
        "no rate was found at which one worker without batching takes {slow:?} on average: {tried}. The load \
         generator or HTTP may be the limit, not the worker: take a slower --model or larger requests (--batch), \
         measure longer (--duration), or give the generator more (--threads)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_told_what_the_host_said_at_their_end() {
        let from = Instant::now();
        let sample = |at_ms, workers, runs, items| Sample {
            at: from + Duration::from_millis(at_ms),
            workers,
            runs,
            items,
        };
        let samples = [sample(0, 1.0, 0.0, 0.0), sample(900, 1.0, 10.0, 10.0), sample(1900, 2.0, 20.0, 60.0)];
        let slice = |at_s| Slice { at_s, requests: 1, mean_ms: 1.0, p99_ms: 1.0, workers: None, batch: None };
        let mut slices = [slice(0.4), slice(1.4), slice(9.0)];
        annotate(&mut slices, &samples, from, 0.8);
        assert_eq!(
            slices.map(|slice| (slice.workers, slice.batch)),
            [(Some(1.0), Some(1.0)), (Some(2.0), Some(5.0)), (Some(2.0), Some(5.0)),]
        );
        annotate(&mut [slice(0.4)], &[], from, 0.8);
    }

    #[test]
    fn a_rate_that_was_not_found_names_the_last_and_the_remedies() {
        let trials = [Trial { rate_per_s: 99.6, mean_ms: 3.25 }];
        let error = unreachable_rate(&trials, Duration::from_millis(120)).to_string();
        assert!(error.contains("at 100 requests/s it took 3.2 ms") && error.contains("--batch"), "{error}");
    }
}
