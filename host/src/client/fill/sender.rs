//! What sends one file after another on a connection of its own.
//!
//! Owns what an answer means: remembered, to be sent again later, a failure of this file, or one of the whole run. A
//! sender holds one file at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Method, StatusCode};

use super::super::bench::channel::{Answer, Channel, Fault};
use super::super::bench::request::Prepared;
use super::super::cache_status::{self, Verdict};
use super::super::error::ClientError;
use super::super::exchange::Outgoing;
use super::super::host::Host;
use super::body;
use super::files::Found;
use super::job::Job;

/// The shortest and the longest pause before a file is sent again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How soon an interrupt is seen during a pause.
const GLANCE: Duration = Duration::from_millis(50);

/// What became of one file.
enum Fate {
    Remembered(Verdict),
    /// It cannot be sent, or was refused for good.
    Failed(String),
    /// So might all others.
    Fatal(ClientError),
    /// The host cannot answer now: why, and how long it wants to be left alone if it says so.
    Later(String, Option<Duration>),
}

/// See the module.
pub(super) struct Sender {
    job: Arc<Job>,
    host: Host,
    channel: Channel,
}

impl Sender {
    /// One that connects when it has something to send.
    pub(super) fn new(job: Arc<Job>, host: Host) -> Self {
        Self { job, channel: Channel::http1(host.clone()), host }
    }

    /// Sends files until there are none left, or the run is over.
    ///
    /// # Errors
    /// What makes all further files useless.
    pub(super) async fn send_all(mut self) -> Result<(), ClientError> {
        while self.send_one().await? {}
        Ok(())
    }

    /// Sends one file. Returns whether there may be more.
    ///
    /// # Errors
    /// As [`Sender::send_all`].
    pub(super) async fn send_one(&mut self) -> Result<bool, ClientError> {
        if self.job.stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let job = Arc::clone(&self.job);
        let taken = tokio::task::spawn_blocking(move || take(&job)).await;
        let taken = taken.map_err(|error| ClientError::Usage(format!("cannot read files: {error}")))?;
        let (path, body) = match taken {
            None => return Ok(false),
            Some((path, Err(reason))) => {
                self.job.failed(&path, reason);
                return Ok(true);
            }
            Some((path, Ok(body))) => (path, body),
        };
        let size = body.len() as u64;
        match self.persist(&path, body).await {
            Fate::Remembered(Verdict::NotStored) => {
                let reason = "it was answered, but the answer is not remembered: it may be larger than cache.max_entry";
                self.job.failed(&path, reason.to_owned());
            }
            Fate::Remembered(verdict) => self.job.remembered(verdict, size),
            Fate::Failed(reason) | Fate::Later(reason, _) => self.job.failed(&path, reason),
            Fate::Fatal(error) => {
                self.job.failed(&path, error.to_string());
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Sends a file until the host takes it, or has been asked for long enough.
    async fn persist(&mut self, path: &Path, body: Bytes) -> Fate {
        let prepared = match self.prepare(path, body) {
            Ok(prepared) => prepared,
            Err(reason) => return Fate::Failed(reason),
        };
        let (begin, mut pause) = (Instant::now(), PAUSES.0);
        loop {
            let sent = self.channel.exchange(&prepared, self.job.timeout).await;
            let (reason, wanted) = match self.judge(sent) {
                Fate::Later(reason, wanted) => (reason, wanted),
                fate => return fate,
            };
            let rest = wanted.unwrap_or(pause).max(PAUSES.0);
            let is_over = begin.elapsed().saturating_add(rest) > self.job.retry_for;
            if is_over || !self.sleep(rest).await {
                return Fate::Later(reason, None);
            }
            self.job.retried.fetch_add(1, Ordering::Relaxed);
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn prepare(&self, path: &Path, body: Bytes) -> Result<Prepared, String> {
        let mut headers = self.job.headers.clone();
        if self.job.infer {
            body::describe_infer(&body, &mut headers)?;
        } else {
            body::describe(path, &body, &mut headers);
        }
        let outgoing = Outgoing { method: Method::POST, path: self.job.path.clone(), headers, body };
        Prepared::new(&self.host, outgoing, false).map_err(|error| error.to_string())
    }

    fn judge(&self, sent: Result<Answer, Fault>) -> Fate {
        let answer = match sent {
            Ok(answer) => answer,
            Err(Fault::Timeout) => {
                return Fate::Failed(format!(
                    "no answer within {:?}; --timeout gives it more",
                    self.job.timeout
                ));
            }
            // Nobody has answered yet: it is the URL that is wrong, not the moment.
            Err(Fault::Connect(reason)) if !self.job.has_answered() => {
                return Fate::Fatal(ClientError::Unreachable { url: self.host.to_string(), reason });
            }
            Err(Fault::Broken(reason)) if !self.job.has_answered() => {
                return Fate::Fatal(ClientError::NoAnswer { url: self.host.to_string(), reason });
            }
            Err(Fault::Connect(reason) | Fault::Broken(reason)) => return Fate::Later(reason, None),
        };
        self.job.note_answer();
        self.judge_answer(&answer)
    }

    fn judge_answer(&self, answer: &Answer) -> Fate {
        let refusal =
            || ClientError::from_answer(answer.status, answer.refusal.as_deref().unwrap_or_default());
        match answer.status {
            status if status.is_success() => match cache_status::of_host(&answer.headers) {
                Some(Verdict::Anonymous) => Fate::Fatal(ClientError::Nonsense(format!(
                    "model '{}' remembers answers for each caller (cache.scope: caller), and this one is unknown: give \
                     credentials",
                    self.job.model
                ))),
                Some(verdict) => Fate::Remembered(verdict),
                None => Fate::Fatal(ClientError::Nonsense(format!(
                    "model '{}' remembers no answers: set cache.ttl in its model.yaml",
                    self.job.model
                ))),
            },
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Fate::Later(refusal().to_string(), retry_after(&answer.headers))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                Fate::Fatal(refusal())
            }
            _ => Fate::Failed(refusal().to_string()),
        }
    }

    /// Returns whether the run goes on.
    async fn sleep(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while !self.job.stop.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            tokio::time::sleep(left.min(GLANCE)).await;
        }
        false
    }
}

/// The next file and its content, or why there is none; `None` at the end of all files.
fn take(job: &Job) -> Option<(PathBuf, Result<Bytes, String>)> {
    Some(match job.next_file()? {
        Found::File(path) => {
            let body = body::read(&path);
            (path, body)
        }
        Found::Problem(path, reason) => (path, Err(reason)),
    })
}

/// The seconds of `retry-after`; a date is not looked at.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u32 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.into()))
}
