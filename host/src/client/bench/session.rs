//! The rows of a run, one after the other, and the turns of a comparison.
//!
//! Owns the order of phases. Two requests that are compared take turns (A B, B A, A B …), so that a
//! machine that slows down or speeds up meanwhile does so for both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::super::error::ClientError;
use super::super::exchange::unreachable_host;
use super::channel::{Channel, Fault};
use super::phase::{Phase, run};
use super::plan::Plan;
use super::progress::Progress;
use super::request::Prepared;
use super::schedule::Limit;
use super::tally::Tally;

/// The warm-up of each turn but the first: connections are made anew, nothing else.
const TURN_WARMUP: Duration = Duration::from_millis(100);
/// The turns of each side if requests are counted, not time.
const COUNTED_TURNS: u64 = 10;

/// What was measured of one request at one concurrency.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// Counts and times.
    pub(super) tally: Tally,
    /// From the end of each warm-up to the last answer, summed over the turns.
    pub(super) elapsed: Duration,
}

/// One row of results.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The most requests in flight.
    pub(super) concurrency: u32,
    /// What was asked about.
    pub(super) measured: Outcome,
    /// What it is compared with.
    pub(super) baseline: Option<Outcome>,
    /// Throughput of the measured over that of the baseline, for each pair of turns.
    pub(super) turn_ratios: Vec<f64>,
}

/// One turn of one side.
struct Turn {
    is_baseline: bool,
    warmup: Duration,
    limit: Limit,
}

/// Sends one request of each kind, so that a wrong path or an absent host is told before the load.
///
/// # Errors
/// [`ClientError::Unreachable`], [`ClientError::NoAnswer`] or, unless refusals are allowed,
/// [`ClientError::Refused`].
pub(super) fn probe(plan: &Plan, allow_errors: bool) -> Result<(), ClientError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ClientError::Usage(format!("cannot start: {error}")))?;
    for prepared in [Some(&plan.measured), plan.baseline.as_ref()].into_iter().flatten() {
        let host = prepared.host();
        let mut channel = match plan.http2_connections {
            None => Channel::http1(host.clone()),
            Some(_) => Channel::http2(host, 1).remove(0),
        };
        let url = host.to_string();
        let no_answer = |reason: String| ClientError::NoAnswer { url: url.clone(), reason };
        let outcome = runtime.block_on(async {
            super::super::exchange::connect(host, plan.http2_connections.is_some())
                .await
                .map_err(|error| unreachable_host(host, &error))?;
            Ok::<_, ClientError>(channel.exchange(prepared, plan.timeout).await)
        })?;
        match outcome {
            Ok(answer) => match answer.refusal {
                Some(refusal) if !allow_errors => {
                    return Err(ClientError::from_answer(answer.status, &refusal));
                }
                _ => {}
            },
            Err(Fault::Timeout) => {
                return Err(no_answer("the time ran out; --timeout gives it more".to_owned()));
            }
            Err(Fault::Connect(reason) | Fault::Broken(reason)) => return Err(no_answer(reason)),
        }
    }
    Ok(())
}

/// Runs all rows, or as many as come before `stop` is set.
///
/// # Errors
/// What [`run`] says; failing requests are in the rows.
pub(super) fn measure(plan: &Plan, stop: &Arc<AtomicBool>) -> Result<Vec<Row>, ClientError> {
    let turns = turns(plan);
    let all = plan.rows.iter().flat_map(|_| turns.iter().map(|turn| (turn.warmup, turn.limit)));
    let mut progress = Progress::new(all);
    let mut rows = Vec::new();
    for &concurrency in &plan.rows {
        rows.push(measure_row(plan, concurrency, &turns, stop, &mut progress)?);
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(rows)
}

fn measure_row(
    plan: &Plan,
    concurrency: u32,
    turns: &[Turn],
    stop: &Arc<AtomicBool>,
    progress: &mut Progress,
) -> Result<Row, ClientError> {
    let empty = || Tally::new().map(|tally| Outcome { tally, elapsed: Duration::ZERO });
    let mut sides = [empty()?, empty()?];
    let mut turn_ratios = Vec::new();
    for (index, pair) in turns.chunks(if plan.baseline.is_some() { 2 } else { 1 }).enumerate() {
        let mut rates = [0.0; 2];
        for turn in pair {
            let (prepared, name): (&Prepared, _) = match (&plan.baseline, turn.is_baseline) {
                (Some(baseline), true) => (baseline, "baseline"),
                _ => (&plan.measured, "measured"),
            };
            let phase = phase_of(plan, prepared, concurrency, turn, index as u64);
            let label = format!("{concurrency} at once, {name}");
            let tally = run(&phase, stop, |shared| progress.tick(shared, &label))?;
            progress.finish_phase(turn.warmup, turn.limit);
            let elapsed = tally.last_finished.saturating_sub(turn.warmup);
            let side = usize::from(turn.is_baseline);
            rates[side] = per_second(tally.succeeded(), elapsed);
            sides[side].tally.merge(&tally);
            sides[side].elapsed += elapsed;
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        if rates[1] > 0.0 && rates[0] > 0.0 {
            turn_ratios.push(rates[0] / rates[1]);
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    let [measured, baseline] = sides;
    let baseline = plan.baseline.is_some().then_some(baseline);
    Ok(Row { concurrency, measured, baseline, turn_ratios })
}

fn phase_of(plan: &Plan, prepared: &Prepared, concurrency: u32, turn: &Turn, index: u64) -> Phase {
    Phase {
        prepared: prepared.clone(),
        pace: plan.pace,
        // The same gaps for both sides of a pair, others for each pair.
        seed: plan.seed.wrapping_add(index),
        concurrency,
        http2_connections: plan.http2_connections,
        threads: plan.threads,
        warmup: turn.warmup,
        limit: turn.limit,
        timeout: plan.timeout,
        keeps_points: false,
    }
}

/// The turns of a row: one, or with a baseline pairs whose order alternates.
fn turns(plan: &Plan) -> Vec<Turn> {
    if plan.baseline.is_none() {
        return vec![Turn { is_baseline: false, warmup: plan.warmup, limit: plan.limit }];
    }
    let limits = match plan.limit {
        Limit::Time(total) => {
            let count = (total.as_secs_f64() / plan.slice.as_secs_f64()).round().clamp(1.0, 10_000.0) as u32;
            vec![Limit::Time(total / count); count as usize]
        }
        Limit::Requests(total) => {
            let count = COUNTED_TURNS.min(total);
            (0..count).map(|turn| Limit::Requests(total / count + u64::from(turn < total % count))).collect()
        }
    };
    let mut turns = Vec::new();
    for (index, limit) in limits.into_iter().enumerate() {
        let warmup = if index == 0 { plan.warmup } else { plan.warmup.min(TURN_WARMUP) };
        for is_baseline in if index % 2 == 0 { [false, true] } else { [true, false] } {
            turns.push(Turn { is_baseline, warmup, limit });
        }
    }
    turns
}

/// A count as a rate; 0 if no time passed.
pub(super) fn per_second(count: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}
