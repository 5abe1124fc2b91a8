//! A blocking HTTP/1.1 client that keeps connections alive and reports every status as an answer.

use std::time::Duration;

use http::{HeaderMap, Method};
use serde_json::Value;

/// What no answer should take, however busy the machine is.
const GUARD: Duration = Duration::from_secs(60);

/// The longest body that is read.
const LONGEST_BODY: u64 = 1 << 30;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("status {}: no JSON: {error}: {}", self.status, self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as text, without the name of the request that an error has in it.
    pub fn text_without_id(&self) -> String {
        let id = self.header("x-request-id").unwrap_or_default();
        self.text().replace(&format!(",\"request_id\":\"{id}\""), "")
    }

    /// A header's text; `None` if it is not there.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The message of an error.
    ///
    /// # Panics
    /// If the body is not the JSON of one.
    pub fn error(&self) -> String {
        let body = self.json();
        let message = body["error"].as_str();
        message.unwrap_or_else(|| panic!("status {}: no error: {body}", self.status)).to_owned()
    }

    /// This answer, if it has that status.
    ///
    /// # Panics
    /// If it has another; the panic shows the body.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// Requests to one host over kept connections. Clones share them, and may be used by several threads.
#[derive(Clone, Debug)]
pub struct Client {
    agent: ureq::Agent,
    base: String,
}

impl Client {
    /// A client for `http://HOST:PORT`, without connections yet.
    pub fn new(base: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(GUARD))
            .max_idle_connections_per_host(64)
            .proxy(None)
            .build();
        Self { agent: config.new_agent(), base: base.trim_end_matches('/').to_owned() }
    }

    /// A request to `path`, which is taken as it is (with its query string).
    pub fn request(&self, method: &str, path: &str) -> Request<'_> {
        let method =
            Method::from_bytes(method.as_bytes()).unwrap_or_else(|_| panic!("'{method}' is no method"));
        let builder = http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        Request { client: self, builder, body: Vec::new() }
    }

    /// `GET path`.
    ///
    /// # Panics
    /// If no answer comes.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path).send()
    }

    /// `POST path` with a body and its media type; an empty type sends no header.
    ///
    /// # Panics
    /// If no answer comes.
    #[track_caller]
    pub fn post(&self, path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        let request = self.request("POST", path).body(body);
        if content_type.is_empty() {
            request.send()
        } else {
            request.header("content-type", content_type).send()
        }
    }

    /// `POST path` with a JSON body.
    ///
    /// # Panics
    /// If no answer comes.
    #[track_caller]
    pub fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.post(path, "application/json", body.to_string())
    }
}

/// A request that is being put together.
#[derive(Debug)]
pub struct Request<'a> {
    client: &'a Client,
    builder: http::request::Builder,
    body: Vec<u8>,
}

impl Request<'_> {
    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it.
    ///
    /// # Panics
    /// If no answer comes.
    #[track_caller]
    pub fn send(self) -> Answer {
        self.try_send().unwrap_or_else(|error| panic!("no answer came: {error}"))
    }

    /// Sends it.
    ///
    /// # Errors
    /// Why no answer came, or not all of it.
    pub fn try_send(self) -> Result<Answer, String> {
        let describe = |error: ureq::Error| error.to_string();
        let has_body = !self.body.is_empty() || self.builder.method_ref() == Some(&Method::POST);
        let agent = &self.client.agent;
        let answered = if has_body {
            agent.run(self.builder.body(self.body).map_err(|error| error.to_string())?)
        } else {
            agent.run(self.builder.body(()).map_err(|error| error.to_string())?)
        };
        let (head, mut body) = answered.map_err(describe)?.into_parts();
        let body = body.with_config().limit(LONGEST_BODY).read_to_vec().map_err(describe)?;
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }
}
