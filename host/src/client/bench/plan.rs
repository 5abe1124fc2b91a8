//! What a run will do, worked out from the arguments before any load.
//!
//! Owns the choice of defaults that depend on several arguments, and the asking for a model's
//! metadata. It is the only part of the load generator that reads files.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::super::credentials;
use super::super::error::ClientError;
use super::super::exchange::{Outgoing, fetch};
use super::super::host::{Host, model_path, predict_path};
use super::super::media;
use super::super::predict::read_input;
use super::args::{Arrival, BenchArgs, Encoding, TargetArgs};
use super::draw::Draw;
use super::infer_body::encode;
use super::phase::Pace;
use super::request::Prepared;
use super::schedule::Limit;
use super::tensors::generate;
use crate::model::tensor::Tensor;

/// Where the JSON of an infer request with binary tensors ends.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
/// The most requests in flight of an open loop that names no number.
const OPEN_CONCURRENCY: u32 = 64;

/// All that a run needs to know.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// What is measured.
    pub(super) measured: Prepared,
    /// What it is compared with.
    pub(super) baseline: Option<Prepared>,
    /// The generated tensors, without their elements.
    pub(super) tensors: Vec<Tensor>,
    /// Requests in flight, for each row.
    pub(super) rows: Vec<u32>,
    /// Closed or open loop.
    pub(super) pace: Pace,
    /// How long to measure.
    pub(super) limit: Limit,
    /// How long to load before.
    pub(super) warmup: Duration,
    /// The most that one request may take.
    pub(super) timeout: Duration,
    /// h2 connections; `None` for HTTP/1.1.
    pub(super) http2_connections: Option<u32>,
    /// The most threads.
    pub(super) threads: u32,
    /// How long a turn is when two are compared.
    pub(super) slice: Duration,
    /// Where random elements and gaps begin.
    pub(super) seed: u64,
}

/// Works the plan out; asks the host for a model's metadata if it is to infer.
///
/// # Errors
/// [`ClientError::Usage`] if arguments do not fit together, and what `fetch` says of the metadata.
pub(super) fn make(args: &BenchArgs) -> Result<Plan, ClientError> {
    if let Some((argument, target)) = args.misplaced() {
        return Err(ClientError::Usage(format!("{argument} is for {target} only")));
    }
    let host = args.tls.host(&args.url)?;
    let (outgoing, tensors, bodies) = outgoing(args, &host)?;
    let draw = Draw::new(bodies.len(), args.tensors.zipf.unwrap_or(0.0), args.tensors.seed);
    let baseline = baseline(args, &host, &outgoing)?;
    let drawing = |prepared: Prepared| match prepared.body_length() {
        0 => prepared,
        _ if bodies.is_empty() => prepared,
        _ => prepared.drawing(bodies.clone(), draw.clone()),
    };
    let load = &args.load;
    let pace = load
        .rate
        .map_or(Pace::Closed, |rate| Pace::Open { rate, arrival: load.arrival.unwrap_or(Arrival::Constant) });
    let default_concurrency = if pace == Pace::Closed { 1 } else { OPEN_CONCURRENCY };
    let rows = if load.concurrency.is_empty() { vec![default_concurrency] } else { load.concurrency.clone() };
    let connections = load.connections.unwrap_or(1);
    if let Some(row) = rows.iter().find(|row| load.http2 && **row < connections) {
        return Err(ClientError::Usage(format!(
            "--concurrency {row} cannot use --connections {connections}"
        )));
    }
    Ok(Plan {
        measured: drawing(Prepared::new(&host, outgoing, load.http2)?),
        baseline: baseline.map(drawing),
        tensors,
        rows,
        pace,
        limit: load.requests.map_or(Limit::Time(load.duration), Limit::Requests),
        warmup: load.warmup,
        timeout: load.timeout,
        http2_connections: load.http2.then_some(connections),
        threads: load.threads,
        slice: load.slice,
        seed: args.tensors.seed,
    })
}

/// The request to measure, the tensors in it, and the bodies if there are several.
fn outgoing(args: &BenchArgs, host: &Host) -> Result<(Outgoing, Vec<Tensor>, Vec<Bytes>), ClientError> {
    let TargetArgs { predict, infer, path, .. } = &args.target;
    let version = args.request.version.as_deref();
    if let Some(model) = infer {
        return infer_request(args, host, model, version);
    }
    let (body, content_type) = body(args)?;
    let mut headers = HeaderMap::new();
    headers.extend(content_type.map(|content_type| (CONTENT_TYPE, content_type)));
    add_headers(args, &mut headers)?;
    let path = match (predict, path) {
        (Some(model), _) => predict_path(model, version, &args.request.parameters),
        (None, Some(path)) => path.clone(),
        (None, None) => return Err(ClientError::Usage("one of --predict, --infer and --path".to_owned())),
    };
    let default_method = if args.request.body.is_some() { Method::POST } else { Method::GET };
    let method = args.request.method.clone().unwrap_or(default_method);
    Ok((Outgoing { method, path, headers, body }, Vec::new(), Vec::new()))
}

/// The file to send and its media type.
fn body(args: &BenchArgs) -> Result<(Bytes, Option<HeaderValue>), ClientError> {
    let Some(file) = &args.request.body else {
        return Ok((Bytes::new(), None));
    };
    let body = read_input(file)?;
    let guessed = || HeaderValue::from_static(media::guess(Some(file), &body));
    let content_type = args.request.content_type.clone().unwrap_or_else(guessed);
    Ok((body, Some(content_type)))
}

fn add_headers(args: &BenchArgs, headers: &mut HeaderMap) -> Result<(), ClientError> {
    let given = || args.request.headers.iter();
    if given().any(|header| header.name == CONTENT_TYPE) && args.request.content_type.is_none() {
        headers.remove(CONTENT_TYPE);
    }
    headers.extend(given().map(|header| (header.name.clone(), header.value.clone())));
    args.request.credentials.add_to(headers)
}

fn infer_request(
    args: &BenchArgs,
    host: &Host,
    model: &str,
    version: Option<&str>,
) -> Result<(Outgoing, Vec<Tensor>, Vec<Bytes>), ClientError> {
    let path = model_path(model, version);
    let mut headers = HeaderMap::new();
    add_headers(args, &mut headers)?;
    let question =
        Outgoing { method: Method::GET, path: path.clone(), headers: headers.clone(), body: Bytes::new() };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ClientError::Usage(format!("cannot start: {error}")))?;
    let metadata = runtime.block_on(fetch(host, question, args.load.timeout))?;
    if !metadata.status.is_success() {
        return Err(ClientError::from_answer(metadata.status, &metadata.body));
    }
    let mut tensors = generate(&metadata.body, &args.tensors)?;
    let bodies = other_bodies(args, &metadata.body, &tensors)?;
    let encoded = encode(&tensors, args.tensors.encoding())?;
    let content_type = match args.tensors.encoding() {
        Encoding::Binary => "application/octet-stream",
        Encoding::Json => "application/json",
    };
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
    headers.extend(encoded.json_length.map(|length| (JSON_LENGTH, HeaderValue::from(length))));
    tensors.iter_mut().for_each(|tensor| tensor.data = Bytes::new());
    let path = format!("{path}/infer");
    Ok((Outgoing { method: Method::POST, path, headers, body: encoded.body }, tensors, bodies))
}

/// The most that all different requests may take: 1 GiB.
const BODIES_LIMIT: usize = 1 << 30;

/// The bodies of `--distinct`, each of a seed of its own; none if there is but one.
fn other_bodies(args: &BenchArgs, metadata: &[u8], like: &[Tensor]) -> Result<Vec<Bytes>, ClientError> {
    let Some(count) = args.tensors.distinct.filter(|&count| count > 1) else {
        return Ok(Vec::new());
    };
    let size: usize = like.iter().map(|tensor| tensor.data.len()).sum();
    if size.saturating_mul(count as usize) > BODIES_LIMIT {
        return Err(ClientError::Usage(format!(
            "--distinct {count} requests of {size} bytes take more than {BODIES_LIMIT} bytes: ask for fewer"
        )));
    }
    let body = |number: u32| {
        let mut own = args.tensors.clone();
        // Far apart, so that no sequence runs into the next one's.
        own.seed = own.seed.wrapping_add(u64::from(number) << 32);
        Ok(encode(&generate(metadata, &own)?, own.encoding())?.body)
    };
    (0..count).map(body).collect()
}

/// The request to compare with: the same method, headers and body for another path or URL.
fn baseline(args: &BenchArgs, own: &Host, measured: &Outgoing) -> Result<Option<Prepared>, ClientError> {
    let Some(target) = &args.load.baseline else {
        return Ok(None);
    };
    let (host, path) = split_target(own, target)?;
    let host = if &host == own { host } else { args.tls.other_host(&host)? };
    let method = args.load.baseline_method.clone().unwrap_or_else(|| measured.method.clone());
    let mut outgoing = Outgoing { method, path, ..measured.clone() };
    if matches!(outgoing.method, Method::GET | Method::HEAD) {
        outgoing.body = Bytes::new();
        outgoing.headers.remove(CONTENT_TYPE);
        outgoing.headers.remove(JSON_LENGTH);
    }
    if host != args.url {
        credentials::remove_from(&mut outgoing.headers);
    }
    Prepared::new(&host, outgoing, args.load.http2).map(Some)
}

/// A path of `host`, or a URL of another.
fn split_target(host: &Host, target: &str) -> Result<(Host, String), ClientError> {
    let Some((scheme, rest)) = target.split_once("://").filter(|(scheme, _)| !scheme.contains('/')) else {
        return Ok((host.clone(), target.to_owned()));
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = format!("{scheme}://{authority}").parse();
    let host = host.map_err(|error| ClientError::Usage(format!("--baseline {target}: {error}")))?;
    Ok((host, if path.is_empty() { "/".to_owned() } else { path.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{TestServer, respond};
    use super::super::args::tests::parse;
    use super::*;

    fn plan(line: &[&str]) -> Result<Plan, ClientError> {
        make(&parse(line).unwrap())
    }

    #[test]
    fn the_mode_decides_the_defaults() {
        let closed = plan(&["--path", "/v2"]).unwrap();
        assert_eq!((closed.pace, &*closed.rows, closed.http2_connections), (Pace::Closed, &[1][..], None));
        assert_eq!(closed.measured.method(), Method::GET);
        let open = plan(&["--path", "/v2", "--rate", "10", "--http2", "--requests", "5"]).unwrap();
        assert_eq!(open.pace, Pace::Open { rate: 10.0, arrival: Arrival::Constant });
        assert_eq!(
            (&*open.rows, open.http2_connections, open.limit),
            (&[64][..], Some(1), Limit::Requests(5))
        );
        let error =
            plan(&["--path", "/", "--http2", "--concurrency", "2", "--connections", "4"]).unwrap_err();
        assert_eq!(error.to_string(), "--concurrency 2 cannot use --connections 4");
    }

    #[test]
    fn predict_posts_the_file_with_its_guessed_type() {
        let line = ["--predict", "m", "--version", "3", "--body", "Cargo.toml", "--param", "k=1"];
        let measured = plan(&line).unwrap().measured;
        assert_eq!((measured.method(), measured.path()), (&Method::POST, "/predict/m/3?k=1"));
        assert_eq!(measured.headers()[CONTENT_TYPE], "text/plain; charset=utf-8");
        assert!(measured.body_length() > 0);
        let typed = plan(&[&line[..], &["--content-type", "a/b"]].concat()).unwrap().measured;
        assert_eq!(typed.headers()[CONTENT_TYPE], "a/b");
    }

    #[test]
    fn infer_asks_for_the_metadata_and_makes_the_body() {
        let server = TestServer::start(|request| async move {
            match request.uri().path() {
                "/v2/models/m/versions/2" => {
                    respond(200, r#"{"name":"m","inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]}]}"#)
                }
                _ => respond(404, r#"{"error":"no such model"}"#),
            }
        });
        let url = server.host().to_string();
        let line = ["--url", &url, "--infer", "m", "--version", "2", "--batch", "3"];
        let made = plan(&line).unwrap();
        assert_eq!(made.measured.path(), "/v2/models/m/versions/2/infer");
        assert_eq!(made.tensors[0].shape, [3, 2]);
        let json_length: usize = made.measured.headers()[JSON_LENGTH].to_str().unwrap().parse().unwrap();
        assert_eq!(json_length + 24, made.measured.body_length());
        let json = plan(&[&line[..], &["--encoding", "json"]].concat()).unwrap().measured;
        assert_eq!(json.headers()[CONTENT_TYPE], "application/json");
        assert!(!json.headers().contains_key(JSON_LENGTH));
        let error = plan(&["--url", &url, "--infer", "other"]).unwrap_err();
        assert_eq!(error.to_string(), "no such model (HTTP 404 Not Found)");
    }

    #[test]
    fn the_baseline_is_the_same_request_elsewhere() {
        let line = ["--path", "/a", "--body", "Cargo.toml", "--header", "a: b", "--baseline"];
        let baseline = |rest: &[&str]| plan(&[&line[..], rest].concat()).unwrap().baseline.unwrap();
        let same = baseline(&["/echo?x=http://y"]);
        assert_eq!((same.path(), same.method()), ("/echo?x=http://y", &Method::POST));
        assert!(same.body_length() > 0 && same.headers()["a"] == "b");
        let bare = baseline(&["/v2/health/live", "--baseline-method", "GET"]);
        assert!(bare.body_length() == 0 && !bare.headers().contains_key(CONTENT_TYPE));
        let other = baseline(&["http://127.0.0.1:9/echo"]);
        assert_eq!((other.host().port(), other.path()), (9, "/echo"));
        assert!(baseline(&["https://x/"]).host().is_secure());
        assert!(plan(&[&line[..], &["ftp://x/"]].concat()).is_err());
    }
}
