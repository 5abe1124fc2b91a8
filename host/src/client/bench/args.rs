//! The arguments of `nuke bench`, as typed.
//!
//! Owns their names, defaults and the checks that need one argument only, or that clap can make
//! between two. What several mean together is `plan`'s.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use http::{HeaderValue, Method};

use super::super::credentials::CredentialArgs;
use super::super::host::Host;
use super::super::tls::TlsArgs;
use super::super::values::{Header, parse_duration, parse_header, parse_pair, parse_positive_duration};
use super::scenario::{Scenario, ScenarioArgs};

/// Arguments of `nuke bench`.
#[derive(clap::Args, Clone, Debug)]
pub struct BenchArgs {
    /// The running host
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", env = "NUKE_URL")]
    pub(super) url: Host,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
    #[command(flatten)]
    pub(super) target: TargetArgs,
    #[command(flatten)]
    pub(super) request: RequestArgs,
    #[command(flatten)]
    pub(super) tensors: TensorArgs,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    #[command(flatten)]
    pub(super) scenario: ScenarioArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// What is asked for: exactly one of these.
#[derive(clap::Args, Clone, Debug, Default)]
#[group(required = true, multiple = false)]
pub(super) struct TargetArgs {
    /// Post --body to this model's plugin
    #[arg(long, value_name = "MODEL", requires = "body", help_heading = "Target (one of)")]
    pub(super) predict: Option<String>,
    /// Infer this model with generated tensors
    #[arg(long, value_name = "MODEL", conflicts_with = "body", help_heading = "Target (one of)")]
    pub(super) infer: Option<String>,
    /// Ask for any path, such as /v2/health/live
    #[arg(long, value_name = "PATH", help_heading = "Target (one of)")]
    pub(super) path: Option<String>,
    /// Tell a story in several runs, on hosts that it starts itself
    #[arg(long, value_name = "NAME", help_heading = "Target (one of)")]
    pub(super) scenario: Option<Scenario>,
}

/// How each request looks.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Request")]
pub(super) struct RequestArgs {
    /// The model's version, for --predict and --infer [default: the host's choice]
    #[arg(id = "model_version", long = "version", value_name = "V", conflicts_with = "path")]
    pub(super) version: Option<String>,
    /// A file to send with each request; - reads the standard input
    #[arg(long, value_name = "FILE")]
    pub(super) body: Option<PathBuf>,
    /// The body's media type [default: by its first bytes and its name]
    #[arg(long, value_name = "TYPE", requires = "body")]
    pub(super) content_type: Option<HeaderValue>,
    /// A parameter for the plugin, for --predict (may be given again)
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub(super) parameters: Vec<(String, String)>,
    /// The method, for --path [default: POST with a body, else GET]
    #[arg(long, value_name = "METHOD")]
    pub(super) method: Option<Method>,
    /// A request header (may be given again)
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    pub(super) headers: Vec<Header>,
    #[command(flatten)]
    pub(super) credentials: CredentialArgs,
}

/// The generated tensors of `--infer`.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Tensors, for --infer")]
pub(super) struct TensorArgs {
    /// The size of every input's first dimension [default: 1 where the model leaves it open]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) batch: Option<u32>,
    // Not a doc comment: rustdoc would take the brackets for a link.
    #[arg(
        long = "dim",
        value_name = "INPUT=N",
        value_parser = parse_pair,
        help = "The size of an input's open dimensions: INPUT=N for all, 'INPUT[I]=N' for number I from 0 \
                (may be given again) [default: 1]"
    )]
    pub(super) dimensions: Vec<(String, String)>,
    /// What the elements are; random integers are 0 to 99, random floats 0 to 1 [default: random]
    #[arg(long, value_name = "KIND")]
    pub(super) data: Option<Data>,
    /// How the tensors travel [default: binary]
    #[arg(long, value_name = "ENCODING")]
    pub(super) encoding: Option<Encoding>,
    /// Send so many different requests, a random one each time: what a cache makes of them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) distinct: Option<u32>,
    /// With --distinct: number k of them comes with a weight of 1/k^S [default: 0, all alike]
    #[arg(long, value_name = "S", requires = "distinct", value_parser = parse_zipf)]
    pub(super) zipf: Option<f64>,
    /// Where the random elements and the Poisson arrivals begin: the same seed, the same run
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
}

impl TensorArgs {
    /// What the elements are.
    pub(super) fn data(&self) -> Data {
        self.data.unwrap_or(Data::Random)
    }

    /// How the tensors travel.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding.unwrap_or(Encoding::Binary)
    }
}

impl BenchArgs {
    /// The model's version, if one was named.
    pub(super) fn version(&self) -> Option<&str> {
        self.request.version.as_deref()
    }

    /// Where random elements and gaps begin.
    pub(super) const fn seed(&self) -> u64 {
        self.tensors.seed
    }

    /// An argument that was given although it means nothing for the target, with the target that it
    /// is for. (clap does not enforce `requires` on a member of an exclusive group.)
    pub(super) fn misplaced(&self) -> Option<(&'static str, &'static str)> {
        let is_scenario = self.target.scenario.is_some();
        let is_infer = self.target.infer.is_some() || is_scenario;
        let is_open = self.load.rate.is_some() || is_scenario;
        if let Some(argument) = self.scenario.given().filter(|_| !is_scenario) {
            return Some((argument, "--scenario"));
        }
        let given_for = [
            ("--batch", "--infer", self.tensors.batch.is_some() && !is_infer),
            ("--dim", "--infer", !self.tensors.dimensions.is_empty() && !is_infer),
            ("--data", "--infer", self.tensors.data.is_some() && !is_infer),
            ("--distinct", "--infer", self.tensors.distinct.is_some() && !is_infer),
            ("--encoding", "--infer", self.tensors.encoding.is_some() && !is_infer),
            ("--param", "--predict", !self.request.parameters.is_empty() && self.target.predict.is_none()),
            ("--arrival", "--rate", self.load.arrival.is_some() && !is_open),
            ("--method", "--path", self.request.method.is_some() && self.target.path.is_none()),
        ];
        let found = given_for.into_iter().find(|(_, _, is_misplaced)| *is_misplaced);
        found.map(|(argument, target, _)| (argument, target))
    }
}

/// How the requests come.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Load")]
pub(super) struct LoadArgs {
    /// Requests in flight at once, a row of results for each; with --rate the most at once
    /// [default: 1; with --rate 64]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(super) concurrency: Vec<u32>,
    /// Open loop: send this many requests a second, whether or not answers come
    #[arg(long, value_name = "PER_SECOND", value_parser = parse_rate)]
    pub(super) rate: Option<f64>,
    /// Open loop: the gaps between requests [default: constant; of a scenario poisson]
    #[arg(long, value_name = "KIND")]
    pub(super) arrival: Option<Arrival>,
    /// How long to measure, each row
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_positive_duration)]
    pub(super) duration: Duration,
    /// How many requests to measure, each row, instead of --duration
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) requests: Option<u64>,
    /// How long to load the host before measuring, each row
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    pub(super) warmup: Duration,
    /// The most that one request may take; one that takes longer is an error
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_positive_duration)]
    pub(super) timeout: Duration,
    /// HTTP/2 without TLS ("prior knowledge") instead of HTTP/1.1
    #[arg(long)]
    pub(super) http2: bool,
    /// Connections that the requests in flight share, with --http2 [default: 1]
    #[arg(long, value_name = "N", requires = "http2", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) connections: Option<u32>,
    /// Threads that generate the load
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(super) threads: u32,
    /// Also load this path of the host (or this URL), in turns, and print the ratio
    #[arg(long, value_name = "PATH")]
    pub(super) baseline: Option<String>,
    /// The baseline's method; the body is sent unless it is GET or HEAD [default: as measured]
    #[arg(long, value_name = "METHOD", requires = "baseline")]
    pub(super) baseline_method: Option<Method>,
    /// How long one turn is, with --baseline
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_positive_duration, requires = "baseline")]
    pub(super) slice: Duration,
}

/// Where the results go.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// Print all settings and results as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Write each row's latencies as HdrHistogram percentiles
    #[arg(long, value_name = "FILE")]
    pub(super) histogram: Option<PathBuf>,
    /// Exit with 0 even if requests failed
    #[arg(long)]
    pub(super) allow_errors: bool,
}

/// What a generated tensor holds.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Data {
    /// Zeros; empty elements of BYTES
    Zeros,
    /// Random elements, by --seed
    Random,
}

/// How a generated tensor travels.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Encoding {
    /// The binary tensor extension, both ways
    Binary,
    /// JSON, both ways
    Json,
}

/// The gaps between the requests of an open loop.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Arrival {
    /// All the same
    Constant,
    /// Random, as of many independent clients
    Poisson,
}

fn parse_rate(argument: &str) -> Result<f64, String> {
    match argument.parse::<f64>() {
        Ok(rate) if (0.001..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("expected requests a second, from 0.001 to 10000000".to_owned()),
    }
}

fn parse_zipf(argument: &str) -> Result<f64, String> {
    match argument.parse::<f64>() {
        Ok(exponent) if (0.0..=10.0).contains(&exponent) => Ok(exponent),
        _ => Err("expected an exponent from 0 to 10".to_owned()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    /// Parses what follows `nuke bench`.
    pub(in super::super) fn parse(line: &[&str]) -> Result<BenchArgs, clap::Error> {
        Line::try_parse_from([&["bench"], line].concat()).map(|line| line.args)
    }

    #[test]
    fn the_command_is_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_as_documented() {
        let args = parse(&["--path", "/v2"]).unwrap();
        assert_eq!(args.url.to_string(), "http://127.0.0.1:8080");
        assert_eq!((args.load.duration, args.load.warmup), (Duration::from_secs(10), Duration::from_secs(2)));
        assert!(args.load.concurrency.is_empty() && args.load.rate.is_none() && !args.load.http2);
        assert_eq!((args.tensors.data(), args.tensors.encoding()), (Data::Random, Encoding::Binary));
    }

    #[test]
    fn lists_and_choices_are_read() {
        let line = ["--infer", "m", "--concurrency", "1,16,64", "--data", "zeros", "--encoding", "json"];
        let args = parse(&line).unwrap();
        assert_eq!(args.load.concurrency, [1, 16, 64]);
        assert_eq!((args.tensors.data(), args.tensors.encoding()), (Data::Zeros, Encoding::Json));
        let args = parse(&["--path", "/", "--rate", "1.5", "--arrival", "poisson"]).unwrap();
        assert_eq!((args.load.rate, args.load.arrival), (Some(1.5), Some(Arrival::Poisson)));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let refused: [&[&str]; 15] = [
            &[],
            &["--infer", "m", "--path", "/"],
            &["--predict", "m"],
            &["--infer", "m", "--body", "f"],
            &["--path", "/", "--connections", "2"],
            &["--path", "/", "--version", "1"],
            &["--path", "/", "--requests", "1", "--duration", "1s"],
            &["--path", "/", "--concurrency", "0"],
            &["--path", "/", "--concurrency", "1,,2"],
            &["--path", "/", "--rate", "0"],
            &["--path", "/", "--rate", "NaN"],
            &["--path", "/", "--baseline-method", "GET"],
            &["--infer", "m", "--zipf", "1"],
            &["--infer", "m", "--distinct", "4", "--zipf", "-1"],
            &["--infer", "m", "--distinct", "0"],
        ];
        for line in refused {
            assert!(parse(line).is_err(), "{line:?}");
        }
        let misplaced = |line: &[&str]| parse(&[&["--path", "/"], line].concat()).unwrap().misplaced();
        assert_eq!(misplaced(&["--batch", "2"]), Some(("--batch", "--infer")));
        assert_eq!(misplaced(&["--encoding", "json"]), Some(("--encoding", "--infer")));
        assert_eq!(misplaced(&["--arrival", "poisson"]), Some(("--arrival", "--rate")));
        assert_eq!(misplaced(&["--param", "k=1"]), Some(("--param", "--predict")));
        assert_eq!(
            parse(&["--infer", "m", "--method", "PUT"]).unwrap().misplaced(),
            Some(("--method", "--path"))
        );
        assert_eq!(misplaced(&["--method", "PUT"]), None);
    }
}
