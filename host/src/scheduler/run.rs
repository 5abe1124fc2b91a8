//! One batch, from the queue to its answers.
//!
//! Owns that every request of it is answered once: with its own part of the outputs, or with how it failed.
//! A batch that fails is run again request by request, so that only those fail that are at fault. A batch whose
//! worker dies is given back, for another worker to run it request by request.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::job::Job;
use super::queue::Waiting as _;
use super::ticket::Running;
use crate::error::Error;
use crate::isolation::Executor;
use crate::model::tensor::Tensor;
use crate::model::{DoesNotFollow, split};
use crate::telemetry::ComputeSeries;

/// What is left to do after a batch.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// The model's outputs do not follow its batches after all: requests must not share runs any more.
    pub(super) diverged: Option<DoesNotFollow>,
    /// The worker is lost, and these have no answer yet.
    pub(super) unanswered: Vec<Job>,
}

/// Runs requests that belong together, and answers those that somebody still waits for.
pub(super) fn serve(session: &mut Executor, jobs: Vec<Job>, metrics: &Arc<ComputeSeries>) -> Served {
    let started = Instant::now();
    let running = match Running::new(metrics) {
        Ok(running) => running,
        Err(error) => {
            jobs.into_iter().for_each(|job| job.answer(Err(error.clone()), started));
            return Served::default();
        }
    };
    let mut jobs: Vec<Job> = jobs.into_iter().filter(|job| job.ticket.start(&running)).collect();
    if jobs.len() <= 1 {
        let Some(job) = jobs.pop() else {
            return Served::default();
        };
        let outputs = run(session, &[&job], &job.wanted, &running, metrics);
        if session.lost().is_some() {
            return Served { diverged: None, unanswered: survivors(session, vec![job], started) };
        }
        job.answer(outputs, started);
        return Served::default();
    }
    let wanted = union(&jobs);
    let all: Vec<&Job> = jobs.iter().collect();
    let mut served = Served::default();
    match run(session, &all, &wanted, &running, metrics) {
        Ok(outputs) => match hand_out(&outputs, &wanted, jobs, started) {
            Ok(()) => return served,
            Err((unanswered, does_not_follow)) => {
                jobs = unanswered;
                served.diverged = Some(does_not_follow);
            }
        },
        Err(_) if session.lost().is_some() => {
            served.unanswered = survivors(session, jobs, started);
            return served;
        }
        // Nobody waits: it was ended, and there is nobody to answer.
        Err(_) if running.is_abandoned() => return served,
        Err(error) => {
            tracing::debug!(%error, requests = jobs.len(), "a batch failed: its requests run one by one");
        }
    }
    metrics.retried.inc();
    one_by_one(session, jobs, metrics, served)
}

fn one_by_one(
    session: &mut Executor,
    jobs: Vec<Job>,
    metrics: &Arc<ComputeSeries>,
    mut served: Served,
) -> Served {
    for job in jobs {
        if session.lost().is_some() {
            // It has not been in the run that its worker did not survive.
            served.unanswered.extend(job.wait_again());
            continue;
        }
        let one = serve(session, vec![job], metrics);
        served.diverged = served.diverged.or(one.diverged);
        served.unanswered.extend(one.unanswered);
    }
    served
}

/// Those of a run that its worker did not survive that are to be run again.
fn survivors(session: &Executor, jobs: Vec<Job>, started: Instant) -> Vec<Job> {
    let Some(loss) = session.lost() else {
        return jobs;
    };
    jobs.into_iter().filter_map(|job| job.survive(loss, started)).collect()
}

/// Runs requests together. A panic in here is a bug; it must cost requests, not the worker.
fn run(
    session: &mut Executor,
    jobs: &[&Job],
    wanted: &[usize],
    running: &Running,
    metrics: &ComputeSeries,
) -> Result<Vec<Tensor>, Error> {
    let items: usize = jobs.iter().map(|job| job.items().max(1)).sum();
    metrics.runs.observe(items as f64);
    let started = Instant::now();
    let inputs: Vec<&[Tensor]> = jobs.iter().map(|job| job.inputs.as_slice()).collect();
    let ran = catch_unwind(AssertUnwindSafe(|| session.run_batch(&inputs, wanted, Some(running.stop()))));
    let outputs =
        ran.unwrap_or_else(|_| Err(Error::internal("the worker panicked while it ran the model")))?;
    metrics.statistics.ran(items, started.elapsed());
    Ok(outputs)
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
