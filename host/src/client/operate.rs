//! What the commands for operators have in common: asking a host's admin interface.
//!
//! Owns the host and time that they take, and the paths below `/admin`. It shows nothing.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::Value;

use super::credentials::CredentialArgs;
use super::error::ClientError;
use super::exchange::{Outgoing, fetch};
use super::host::{Host, admin_path};
use super::text;
use super::tls::TlsArgs;
use super::values::{Header, parse_header, parse_positive_duration};

/// Which host is asked, and how.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct HostArgs {
    /// The host's admin interface: server.admin, or where it listens if that is not set
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", env = "NUKE_ADMIN_URL")]
    url: Host,
    /// A request header (may be given again)
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    headers: Vec<Header>,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_positive_duration)]
    timeout: Duration,
    /// Print the host's answer as it came
    #[arg(long)]
    pub(super) json: bool,
    // Last, as the headings of their help hold for what follows.
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    credentials: CredentialArgs,
}

/// What is asked of the admin interface.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) method: Method,
    pub(super) model: &'a str,
    /// What follows the model in the path, such as `traffic`.
    pub(super) tail: &'a str,
    pub(super) body: Bytes,
}

impl HostArgs {
    /// Asks, and returns the JSON of a success.
    ///
    /// # Errors
    /// [`ClientError`]; an answer that is no success is one.
    pub(super) fn ask(&self, question: Question<'_>) -> Result<Value, ClientError> {
        if question.model.is_empty() {
            return Err(ClientError::Usage("the name of a model cannot be empty".to_owned()));
        }
        self.ask_at(admin_path(question.model, question.tail), question)
    }

    /// Asks for what is at a path of the admin interface that belongs to no model.
    ///
    /// # Errors
    /// As [`HostArgs::ask`].
    pub(super) fn ask_path(&self, method: Method, path: &str) -> Result<Value, ClientError> {
        let question = Question { method, model: "", tail: "", body: Bytes::new() };
        self.ask_at(path.to_owned(), question)
    }

    fn ask_at(&self, path: String, question: Question<'_>) -> Result<Value, ClientError> {
        let mut headers = HeaderMap::new();
        if !question.body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
        }
        for header in &self.headers {
            headers.append(header.name.clone(), header.value.clone());
        }
        self.credentials.add_to(&mut headers)?;
        let outgoing = Outgoing { method: question.method, path, headers, body: question.body };
        let host = self.tls.host(&self.url)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| ClientError::Usage(format!("cannot start: {error}")))?;
        let answer = runtime.block_on(fetch(&host, outgoing, self.timeout))?;
        if !answer.status.is_success() {
            return Err(ClientError::from_answer(answer.status, &answer.body));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| ClientError::Nonsense(format!("{} answered with no JSON: {error}", self.url)))
    }
}

/// A text of the host, safe to print; other values as JSON has them.
pub(super) fn word(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text::one_line(text),
        other => text::one_line(&other.to_string()),
    }
}

/// Shows what a command came to, and makes its exit code.
pub(super) fn finish(outcome: Result<String, ClientError>) -> ExitCode {
    match outcome {
        Ok(shown) => {
            print!("{shown}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
    }
}
