//! One batch, from the queue to its answers.
//!
//! Owns that every request of it is answered once: with its own part of the outputs, or with how it failed.
//! A batch that fails is run again request by request, so that only those fail that are at fault.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::job::Job;
use super::queue::Waiting as _;
use super::ticket::Running;
use crate::error::Error;
use crate::model::tensor::Tensor;
use crate::model::{DoesNotFollow, ModelSession, split};
use crate::telemetry::ComputeSeries;

/// Runs requests that belong together, and answers those that somebody still waits for.
///
/// # Errors
/// That the model's outputs do not follow its batches after all: requests must not share runs any more. They
/// have been answered all the same.
pub(super) fn serve(
    session: &mut ModelSession,
    jobs: Vec<Job>,
    metrics: &Arc<ComputeSeries>,
) -> Result<(), DoesNotFollow> {
    let started = Instant::now();
    let running = match Running::new(metrics) {
        Ok(running) => running,
        Err(error) => {
            jobs.into_iter().for_each(|job| job.answer(Err(error.clone()), started));
            return Ok(());
        }
    };
    let mut jobs: Vec<Job> = jobs.into_iter().filter(|job| job.ticket.start(&running)).collect();
    if jobs.len() <= 1 {
        if let Some(job) = jobs.pop() {
            let outputs = run(session, &[&job], &job.wanted, &running, metrics);
            job.answer(outputs, started);
        }
        return Ok(());
    }
    let wanted = union(&jobs);
    let all: Vec<&Job> = jobs.iter().collect();
    let outcome = match run(session, &all, &wanted, &running, metrics) {
        Ok(outputs) => match hand_out(&outputs, &wanted, jobs, started) {
            Ok(()) => return Ok(()),
            Err((unanswered, does_not_follow)) => {
                jobs = unanswered;
                Err(does_not_follow)
            }
        },
        // Nobody waits: it was ended, and there is nobody to answer.
        Err(_) if running.is_abandoned() => return Ok(()),
        Err(error) => {
            tracing::debug!(%error, requests = jobs.len(), "a batch failed: its requests run one by one");
            Ok(())
        }
    };
    metrics.retried.inc();
    for job in jobs {
        serve(session, vec![job], metrics)?;
    }
    outcome
}

/// Runs requests together. A panic in here is a bug; it must cost requests, not the worker.
fn run(
    session: &mut ModelSession,
    jobs: &[&Job],
    wanted: &[usize],
    running: &Running,
    metrics: &ComputeSeries,
) -> Result<Vec<Tensor>, Error> {
    let items: usize = jobs.iter().map(|job| job.items().max(1)).sum();
    metrics.runs.observe(items as f64);
    let inputs: Vec<&[Tensor]> = jobs.iter().map(|job| job.inputs.as_slice()).collect();
    let ran = catch_unwind(AssertUnwindSafe(|| session.run_batch(&inputs, wanted, Some(running.stop()))));
    if matches!(ran, Ok(Ok(_))) {
        running.ran(items, session.times());
    }
    ran.unwrap_or_else(|_| Err(Error::internal("the worker panicked while it ran the model")))
}

/// The positions that any of them asks for, ascending.
fn union(jobs: &[Job]) -> Vec<usize> {
    let mut wanted: Vec<usize> = jobs.iter().flat_map(|job| job.wanted.iter().copied()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

/// Gives each request its part of `outputs`, which are those at the positions `wanted`. Either all are
/// answered, or none.
fn hand_out(
    outputs: &[Tensor],
    wanted: &[usize],
    jobs: Vec<Job>,
    started: Instant,
) -> Result<(), (Vec<Job>, DoesNotFollow)> {
    let items: Vec<usize> = jobs.iter().map(Job::items).collect();
    let parts: Result<Vec<Vec<Tensor>>, DoesNotFollow> =
        outputs.iter().map(|output| split(output, &items)).collect();
    let parts = match parts {
        Ok(parts) => parts,
        Err(does_not_follow) => return Err((jobs, does_not_follow)),
    };
    for (index, job) in jobs.into_iter().enumerate() {
        let part = |position: &usize| {
            let at = wanted.binary_search(position).ok();
            let part = at.and_then(|at| parts.get(at)?.get(index));
            part.cloned().ok_or_else(|| Error::internal(format!("a batch has no output {position}")))
        };
        let outputs = job.wanted.iter().map(part).collect();
        job.answer(outputs, started);
    }
    Ok(())
}
