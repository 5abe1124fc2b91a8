//! `nuke bench --scenario scaling`: what batching and workers that scale do for those who wait.
//!
//! Owns the story and its order: a rate is looked for at which one worker that runs each request by itself is
//! slow, and the same requests are sent at the same moments to a host with batching and more workers. It is the
//! one part of the client that starts hosts: processes of this very program, on the loopback, ended with it.
//!
//! - `args` what was typed; `workplace` a folder of models for the hosts; `own_host` their processes.
//! - `case` the runs; `samples` what the host says meanwhile; `series` latency over time.
//! - `report` table and JSON; `chart` the picture; `svg` its form.

mod args;
mod case;
mod chart;
mod own_host;
mod report;
mod samples;
mod series;
mod svg;
mod workplace;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub(super) use args::{Scenario, ScenarioArgs};
pub(super) use series::Point;

use super::super::error::ClientError;
use super::args::BenchArgs;
use case::Stage;
use report::CaseReport;
use workplace::Workplace;

/// The folder of models if none is named.
const MODELS: &str = "models";
/// The model if none is named: a small transformer (version 2), for which batches pay.
const MODEL: &str = "co2-forecast";

/// Plays a scenario and reports. Exit code 0 if the case was shown, 1 if it was not, a request failed or it was
/// ended early, 2 if it could not be made.
pub(super) fn run_scenario(args: &BenchArgs, stop: &Arc<AtomicBool>) -> ExitCode {
    match play(args, stop) {
        Ok(Some(report)) if report.shown || args.output.allow_errors => ExitCode::SUCCESS,
        Ok(Some(_)) => ExitCode::from(1),
        Ok(None) => {
            eprintln!("ended early: there is nothing to report");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
    }
}

fn play(args: &BenchArgs, stop: &Arc<AtomicBool>) -> Result<Option<CaseReport>, ClientError> {
    args::check(args)?;
    if let Some(svg) = &args.scenario.svg {
        // Minutes of measuring must not end with a file that cannot be written.
        write(svg, "")?;
    }
    let models = args.scenario.models.as_deref().unwrap_or(Path::new(MODELS));
    let model = args.scenario.model.as_deref().unwrap_or(MODEL);
    let place = Workplace::new(models, model, args.version())?;
    let workers = args.scenario.max_workers.unwrap_or(report::cores() as u32);
    let stage = Stage { args, place: &place, workers, stop };
    let Some(case) = stage.play()? else {
        return Ok(None);
    };
    let report = report::report(&stage, case);
    if let Some(svg) = &args.scenario.svg {
        write(svg, &report.draw())?;
    }
    super::print(&if args.output.json { super::json_text(&report)? } else { report.show() })?;
    Ok(Some(report))
}

fn write(path: &Path, text: &str) -> Result<(), ClientError> {
    std::fs::write(path, text)
        .map_err(|error| ClientError::Usage(format!("cannot write '{}': {error}", path.display())))
}
