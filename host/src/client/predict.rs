//! `nuke predict`: a file to a running host, the answer to a person.
//!
//! Owns the command's arguments and its two forms of output. It never keeps a connection.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};

use super::credentials::CredentialArgs;
use super::error::ClientError;
use super::exchange::{Incoming, Outgoing, fetch};
use super::host::{Host, predict_path};
use super::tls::TlsArgs;
use super::values::{Header, parse_header, parse_pair, parse_positive_duration};
use super::{answer, media, text};

/// The header in which the host says which version answered.
const VERSION_HEADER: &str = "x-nuke-model-version";

/// Arguments of `nuke predict`.
#[derive(clap::Args, Clone, Debug)]
pub struct PredictArgs {
    /// The running host
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", env = "NUKE_URL")]
    url: Host,
    /// The model's name
    #[arg(value_name = "MODEL")]
    model: String,
    /// The file to send; - reads the standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The model's version [default: the host's choice]
    #[arg(id = "model_version", long = "version", value_name = "V")]
    version: Option<String>,
    /// A parameter for the plugin, such as k=5 (may be given again)
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parse_pair)]
    parameters: Vec<(String, String)>,
    /// The file's media type [default: by its first bytes and its name]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<HeaderValue>,
    /// A request header (may be given again)
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    headers: Vec<Header>,
    /// Write the answer's body as it came
    #[arg(long)]
    json: bool,
    /// How long to wait for the whole answer
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_positive_duration)]
    timeout: Duration,
    // Last, as the headings of their help hold for what follows.
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    credentials: CredentialArgs,
}

/// Sends the file and shows the answer. Makes its own runtime; must not be called within one.
///
/// Exit code 0 if the host answered with a success, 1 if with an error, 2 if there is no answer.
pub fn run_predict(args: PredictArgs) -> ExitCode {
    match predict(&args).and_then(|answer| write_answer(&answer, args.json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
    }
}

/// Sends the request; an answer that is no success is an error.
fn predict(args: &PredictArgs) -> Result<Incoming, ClientError> {
    let host = args.tls.host(&args.url)?;
    let body = read_input(&args.file)?;
    let outgoing = request_of(args, body)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ClientError::Usage(format!("cannot start: {error}")))?;
    let answer = runtime.block_on(fetch(&host, outgoing, args.timeout))?;
    if !answer.status.is_success() {
        return Err(ClientError::from_answer(answer.status, &answer.body));
    }
    Ok(answer)
}

fn request_of(args: &PredictArgs, body: Bytes) -> Result<Outgoing, ClientError> {
    if args.model.is_empty() || args.version.as_deref() == Some("") {
        return Err(ClientError::Usage("the name of a model or a version cannot be empty".to_owned()));
    }
    let mut headers = HeaderMap::new();
    let named = (!is_stdin(&args.file)).then_some(args.file.as_path());
    let content_type = args.content_type.clone();
    let guessed = || HeaderValue::from_static(media::guess(named, &body));
    headers.insert(CONTENT_TYPE, content_type.unwrap_or_else(guessed));
    for header in &args.headers {
        if header.name == CONTENT_TYPE && args.content_type.is_none() {
            headers.remove(CONTENT_TYPE);
        }
        headers.append(header.name.clone(), header.value.clone());
    }
    args.credentials.add_to(&mut headers)?;
    let path = predict_path(&args.model, args.version.as_deref(), &args.parameters);
    Ok(Outgoing { method: Method::POST, path, headers, body })
}

/// Reads a file, or the standard input for `-`.
pub(super) fn read_input(path: &Path) -> Result<Bytes, ClientError> {
    let read = if is_stdin(path) {
        let mut body = Vec::new();
        std::io::stdin().lock().read_to_end(&mut body).map(|_| body)
    } else {
        std::fs::read(path)
    };
    read.map(Bytes::from)
        .map_err(|error| ClientError::Usage(format!("cannot read '{}': {error}", path.display())))
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// The body to the standard output; the status line, in the human form, to the standard error.
fn write_answer(answer: &Incoming, raw: bool) -> Result<(), ClientError> {
    let mut output = std::io::stdout().lock();
    let written = if raw {
        output.write_all(&answer.body).and_then(|()| output.flush())
    } else {
        eprintln!("{}", status_line(answer));
        let content_type = header(answer, CONTENT_TYPE.as_str()).unwrap_or_default();
        output.write_all(answer::show(&content_type, &answer.body).as_bytes())
    };
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| ClientError::Usage(format!("cannot write the answer: {error}"))),
    }
}

/// Such as `200 OK in 12.3 ms, version 1`.
fn status_line(answer: &Incoming) -> String {
    let mut line = format!("{} in {}", answer.status, text::duration(answer.latency));
    if let Some(version) = header(answer, VERSION_HEADER) {
        line.push_str(&format!(", version {}", text::one_line(&version)));
    }
    line
}

fn header(answer: &Incoming, name: &str) -> Option<String> {
    answer.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::testing::{TestServer, refused_host, respond};
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: PredictArgs,
    }

    fn parse(line: &[&str]) -> Result<PredictArgs, clap::Error> {
        Line::try_parse_from([&["predict"], line].concat()).map(|line| line.args)
    }

    #[test]
    fn arguments_become_a_request() {
        let line =
            ["cat", "photo.jpg", "--version", "2", "--param", "k=5", "--param", "q=a b", "--header", "A: b"];
        let args = parse(&line).unwrap();
        let outgoing = request_of(&args, Bytes::from_static(b"\x89PNG\r\n\x1a\n")).unwrap();
        assert_eq!(outgoing.path, "/predict/cat/2?k=5&q=a%20b");
        assert_eq!(outgoing.headers["content-type"], "image/png");
        assert_eq!(outgoing.headers["a"], "b");
        assert_eq!((args.timeout, args.json), (Duration::from_secs(30), false));
    }

    #[test]
    fn a_content_type_that_is_given_replaces_the_guess() {
        let args = parse(&["m", "-", "--content-type", "a/b"]).unwrap();
        assert_eq!(request_of(&args, Bytes::new()).unwrap().headers["content-type"], "a/b");
        let args = parse(&["m", "-", "--header", "Content-Type: c/d"]).unwrap();
        let headers = request_of(&args, Bytes::new()).unwrap().headers;
        assert_eq!(headers.get_all("content-type").iter().collect::<Vec<_>>(), ["c/d"]);
    }

    #[test]
    fn wrong_arguments_are_refused() {
        assert!(parse(&["m"]).is_err());
        assert!(parse(&["m", "f", "--url", "ftp://h"]).err().unwrap().to_string().contains("or https://"));
        assert!(parse(&["m", "f", "--ca", "a", "--insecure"]).is_err());
        let plain = parse(&["m", "Cargo.toml", "--insecure"]).unwrap();
        assert!(predict(&plain).unwrap_err().to_string().contains("are for https://"));
        let nowhere = parse(&["m", "Cargo.toml", "--url", "https://h", "--ca", "no/such/file"]).unwrap();
        assert!(predict(&nowhere).unwrap_err().to_string().starts_with("'no/such/file' cannot be read"));
        assert!(parse(&["m", "f", "--param", "k"]).is_err());
        assert!(parse(&["m", "f", "--timeout", "0s"]).is_err());
        let error = predict(&parse(&["m", "no/such/file"]).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("cannot read 'no/such/file'"), "{error}");
    }

    #[test]
    fn a_success_is_shown_with_the_version_that_answered() {
        let server = TestServer::start(|request| async move {
            let mut response = respond(200, format!("{} {}", request.uri(), request.body().len()));
            response.headers_mut().insert(VERSION_HEADER, HeaderValue::from_static("1.2.0"));
            response
        });
        let url = server.host().to_string();
        let answer = predict(&parse(&["m", "Cargo.toml", "--url", &url]).unwrap()).unwrap();
        assert!(answer.body.starts_with(b"/predict/m "), "{:?}", answer.body);
        let line = status_line(&answer);
        assert!(line.starts_with("200 OK in ") && line.ends_with(", version 1.2.0"), "{line}");
    }

    #[test]
    fn the_hosts_error_and_an_absent_host_give_different_exit_codes() {
        let server = TestServer::start(|_| async { respond(404, r#"{"error":"no model 'm'"}"#) });
        let line = |host: &Host| parse(&["m", "Cargo.toml", "--url", &host.to_string()]).unwrap();
        let error = predict(&line(&server.host())).unwrap_err();
        assert_eq!(error.to_string(), "no model 'm' (HTTP 404 Not Found)");
        let code = |code| format!("{code:?}");
        assert_eq!(code(run_predict(line(&server.host()))), code(ExitCode::from(1)));
        assert_eq!(code(run_predict(line(&refused_host()))), code(ExitCode::from(2)));
    }
}
