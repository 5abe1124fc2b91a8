//! The arguments of `nuke bench --scenario`, as typed, and which others go with them.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::super::super::error::ClientError;
use super::super::super::values::parse_positive_duration;
use super::super::args::BenchArgs;

/// A story that is told by several runs.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Scenario {
    /// One worker that runs each request by itself, at a rate that is too much for it, against batching and
    /// workers that come and go, at the same rate
    Scaling,
}

/// What `--scenario` takes beside what is about requests and load.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Scenario, for --scenario (it starts hosts of its own; --url is not used)")]
pub(in super::super) struct ScenarioArgs {
    /// The folder of models; nothing in it is changed [default: ./models]
    #[arg(long, value_name = "DIR")]
    pub(super) models: Option<PathBuf>,
    /// The model of that folder to serve; its tensors are asked for, its plugin is not [default: co2-forecast]
    #[arg(long, value_name = "MODEL")]
    pub(super) model: Option<String>,
    /// The most workers that may be opened [default: the cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(super) max_workers: Option<u32>,
    /// Look for the rate at which one worker without batching takes at least so long on average
    /// [default: 120ms]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub(super) slow: Option<Duration>,
    /// What batching and scaling must not exceed on average at that rate [default: 45ms]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    pub(super) fast: Option<Duration>,
    /// Draw latency over time, with workers and batches below it
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
}

impl ScenarioArgs {
    /// The argument that only a scenario takes and that was given, if one was.
    pub(in super::super) fn given(&self) -> Option<&'static str> {
        let all = [
            ("--models", self.models.is_some()),
            ("--model", self.model.is_some()),
            ("--max-workers", self.max_workers.is_some()),
            ("--slow", self.slow.is_some()),
            ("--fast", self.fast.is_some()),
            ("--svg", self.svg.is_some()),
        ];
        all.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }

    /// The mean response time that the rate is looked for.
    pub(super) fn slow(&self) -> Duration {
        self.slow.unwrap_or(Duration::from_millis(120))
    }

    /// The mean response time that is to be reached at it.
    pub(super) fn fast(&self) -> Duration {
        self.fast.unwrap_or(Duration::from_millis(45))
    }
}

/// Refuses what means nothing for a scenario.
///
/// # Errors
/// [`ClientError::Usage`].
pub(super) fn check(args: &BenchArgs) -> Result<(), ClientError> {
    if let Some((argument, target)) = args.misplaced() {
        return Err(ClientError::Usage(format!("{argument} is for {target} only")));
    }
    let load = &args.load;
    let unfit = [
        ("--body", args.request.body.is_some()),
        ("--content-type", args.request.content_type.is_some()),
        ("--param", !args.request.parameters.is_empty()),
        ("--method", args.request.method.is_some()),
        ("--requests", load.requests.is_some()),
        ("--http2", load.http2),
        ("--baseline", load.baseline.is_some()),
        ("--histogram", args.output.histogram.is_some()),
        ("--concurrency with a list", load.concurrency.len() > 1),
    ];
    if let Some((name, _)) = unfit.into_iter().find(|(_, given)| *given) {
        return Err(ClientError::Usage(format!("{name} does not go with --scenario")));
    }
    if args.scenario.fast() >= args.scenario.slow() {
        return Err(ClientError::Usage(format!(
            "--fast {:?} must be less than --slow {:?}: the scenario is to show the difference",
            args.scenario.fast(),
            args.scenario.slow()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::args::tests::parse;
    use super::*;

    #[test]
    fn the_defaults_are_the_published_case() {
        let args = parse(&["--scenario", "scaling"]).unwrap();
        assert_eq!((args.scenario.slow().as_millis(), args.scenario.fast().as_millis()), (120, 45));
        assert!(args.scenario.given().is_none() && check(&args).is_ok() && args.misplaced().is_none());
    }

    #[test]
    fn what_does_not_go_with_a_scenario_is_refused_by_name() {
        for (line, name) in [
            (&["--baseline", "/x"][..], "--baseline"),
            (&["--requests", "9"], "--requests"),
            (&["--concurrency", "1,2"], "--concurrency"),
            (&["--slow", "10ms"], "--fast"),
        ] {
            let args = parse(&[&["--scenario", "scaling"], line].concat()).unwrap();
            let error = check(&args).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
        assert!(parse(&["--scenario", "dancing"]).is_err());
        assert!(parse(&["--scenario", "scaling", "--infer", "m"]).is_err());
    }

    #[test]
    fn what_is_for_a_scenario_alone_is_told_where_there_is_none() {
        let args = parse(&["--path", "/", "--svg", "x.svg"]).unwrap();
        assert_eq!(args.misplaced(), Some(("--svg", "--scenario")));
        let args = parse(&["--infer", "m", "--models", "x"]).unwrap();
        assert_eq!(args.misplaced(), Some(("--models", "--scenario")));
    }
}
