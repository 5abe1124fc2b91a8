//! What happened to the requests of a phase.
//!
//! Owns the histograms and counters, filled by the senders of one thread and merged at the end. It
//! keeps no request and no answer, the first error's words excepted.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::super::error::ClientError;
use super::channel::{Answer, Fault};
use super::scenario::Point;

/// The longest time that is told apart: an hour, in nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;

/// What kind of failure a request met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ErrorKind {
    /// No connection.
    Connect,
    /// No whole answer in time.
    Timeout,
    /// The connection ended, or something else than HTTP came.
    Broken,
    /// Open loop: no connection was free within the timeout of the intended moment.
    Unsent,
    /// An answer whose status is no success.
    Status(u16),
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("no connection"),
            Self::Timeout => f.write_str("timeout"),
            Self::Broken => f.write_str("broken connection"),
            Self::Unsent => f.write_str("not sent in time"),
            Self::Status(status) => write!(f, "status {status}"),
        }
    }
}

/// When a request was to be sent, was sent, and had its whole answer, from the start of the phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    /// Equals `sent` in a closed loop, which has no intentions.
    pub(super) intended: Duration,
    /// When it was handed to its connection.
    pub(super) sent: Duration,
    /// When the answer's last byte was read, or the failure seen.
    pub(super) finished: Duration,
}

/// What threads had of the processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ProcessorUse {
    /// How long they ran.
    pub(super) ran: Duration,
    /// How long they were ready to run while all processors were busy with something else.
    pub(super) waited: Duration,
}

impl ProcessorUse {
    /// What was added after `earlier`.
    pub(super) const fn since(self, earlier: Self) -> Self {
        let ran = self.ran.saturating_sub(earlier.ran);
        Self { ran, waited: self.waited.saturating_sub(earlier.waited) }
    }

    const fn plus(self, other: Self) -> Self {
        let ran = self.ran.saturating_add(other.ran);
        Self { ran, waited: self.waited.saturating_add(other.waited) }
    }
}

/// Counts and times of measured requests.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// From sending to the whole answer, of successes, in nanoseconds.
    pub(super) service: Histogram<u64>,
    /// From the intended moment to the whole answer, of successes, in nanoseconds.
    pub(super) response: Histogram<u64>,
    /// Open loop: how long after its moment a request was sent although a connection was idle: what
    /// the generator adds of its own, in nanoseconds.
    pub(super) lag: Histogram<u64>,
    /// Open loop: how long the others waited for a connection, in nanoseconds.
    pub(super) wait: Histogram<u64>,
    /// Each success with its moment, if wanted.
    pub(super) points: Option<Vec<Point>>,
    /// By kind.
    pub(super) errors: BTreeMap<ErrorKind, u64>,
    /// What the first error said.
    pub(super) first_error: Option<String>,
    /// Successes that say whether they came from a cache, and those of them that did.
    pub(super) cached: (u64, u64),
    /// Bytes of bodies received, of errors too.
    pub(super) received: u64,
    /// When the last request finished, from the start of the phase.
    pub(super) last_finished: Duration,
    /// Connections made after the first of each channel.
    pub(super) reconnects: u64,
    /// What the generator's threads had of the processors, where the system tells it.
    pub(super) processor: Option<ProcessorUse>,
    /// The time those threads ran for, summed.
    pub(super) thread_time: Duration,
}

impl Tally {
    /// Nothing yet.
    ///
    /// # Errors
    /// [`ClientError::Usage`] if the histograms cannot be made.
    pub(super) fn new() -> Result<Self, ClientError> {
        let empty = Histogram::new_with_bounds(1, LONGEST, 3)
            .map_err(|error| ClientError::Usage(format!("cannot make a histogram: {error}")))?;
        Ok(Self {
            service: empty.clone(),
            response: empty.clone(),
            lag: empty.clone(),
            wait: empty,
            points: None,
            errors: BTreeMap::new(),
            first_error: None,
            cached: (0, 0),
            received: 0,
            last_finished: Duration::ZERO,
            reconnects: 0,
            processor: Some(ProcessorUse::default()),
            thread_time: Duration::ZERO,
        })
    }

    /// Adds a request that was sent.
    pub(super) fn record(&mut self, moments: Moments, outcome: Result<Answer, Fault>) {
        self.last_finished = self.last_finished.max(moments.finished);
        let (kind, words) = match outcome {
            Ok(answer) => {
                self.received += answer.received;
                let Some(refusal) = answer.refusal else {
                    self.cached.0 += u64::from(answer.cached.is_some());
                    self.cached.1 += u64::from(answer.cached == Some(true));
                    let Moments { intended, sent, finished } = moments;
                    self.service.saturating_record(nanoseconds(finished.saturating_sub(sent)));
                    self.response.saturating_record(nanoseconds(finished.saturating_sub(intended)));
                    if let Some(points) = &mut self.points {
                        let took_s = finished.saturating_sub(intended).as_secs_f64();
                        points.push(Point { due_s: intended.as_secs_f64(), took_s });
                    }
                    return;
                };
                let is_first = self.first_error.is_none();
                let words = is_first.then(|| ClientError::from_answer(answer.status, &refusal).to_string());
                (ErrorKind::Status(answer.status.as_u16()), words.unwrap_or_default())
            }
            Err(Fault::Connect(reason)) => (ErrorKind::Connect, reason),
            Err(Fault::Timeout) => (ErrorKind::Timeout, "no whole answer within --timeout".to_owned()),
            Err(Fault::Broken(reason)) => (ErrorKind::Broken, reason),
        };
        self.count_error(kind, words);
    }

    /// Adds a request that was never sent.
    pub(super) fn record_unsent(&mut self, now: Duration) {
        self.last_finished = self.last_finished.max(now);
        self.count_error(ErrorKind::Unsent, "no connection was free within --timeout".to_owned());
    }

    /// Adds how late a request of an open loop was sent.
    pub(super) fn record_lateness(&mut self, late: Duration, was_idle: bool) {
        let histogram = if was_idle { &mut self.lag } else { &mut self.wait };
        histogram.saturating_record(nanoseconds(late));
    }

    fn count_error(&mut self, kind: ErrorKind, words: String) {
        *self.errors.entry(kind).or_default() += 1;
        if self.first_error.is_none() {
            self.first_error = Some(words);
        }
    }

    /// Adds another tally's counts to this one.
    pub(super) fn merge(&mut self, other: &Self) {
        // All have the same bounds, so that adding cannot fail.
        let _ = self.service.add(&other.service);
        let _ = self.response.add(&other.response);
        let _ = self.lag.add(&other.lag);
        let _ = self.wait.add(&other.wait);
        if let Some(points) = &other.points {
            self.points.get_or_insert_default().extend_from_slice(points);
        }
        for (kind, count) in &other.errors {
            *self.errors.entry(*kind).or_default() += count;
        }
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
        self.cached = (self.cached.0 + other.cached.0, self.cached.1 + other.cached.1);
        self.received += other.received;
        self.last_finished = self.last_finished.max(other.last_finished);
        self.reconnects += other.reconnects;
        self.processor = self.processor.zip(other.processor).map(|(one, two)| one.plus(two));
        self.thread_time += other.thread_time;
    }

    /// Requests that had a success for an answer.
    pub(super) fn succeeded(&self) -> u64 {
        self.service.len()
    }

    /// Requests that did not, those never sent among them.
    pub(super) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Requests that were sent.
    pub(super) fn sent(&self) -> u64 {
        self.succeeded() + self.failed() - self.errors.get(&ErrorKind::Unsent).copied().unwrap_or(0)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn moments(intended: u64, sent: u64, finished: u64) -> Moments {
        let [intended, sent, finished] = [intended, sent, finished].map(Duration::from_millis);
        Moments { intended, sent, finished }
    }

    fn success() -> Result<Answer, Fault> {
        Ok(Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            received: 10,
            refusal: None,
            cached: Some(true),
        })
    }

    #[test]
    fn response_time_counts_from_the_intention_and_service_time_from_the_sending() {
        let mut tally = Tally::new().unwrap();
        tally.record(moments(100, 400, 450), success());
        let near = |value: u64, expected: u64| value.abs_diff(expected) * 500 < expected;
        assert!(near(tally.service.max(), 50_000_000), "{}", tally.service.max());
        assert!(near(tally.response.max(), 350_000_000), "{}", tally.response.max());
    }

    #[test]
    fn a_stall_is_seen_by_all_that_were_due_in_it_but_only_once_by_the_service_time() {
        // One connection, 100 requests 10 ms apart, each served in 1 ms but number 20, in 500 ms.
        let mut tally = Tally::new().unwrap();
        let mut free = 0;
        for index in 0..100 {
            let due = index * 10;
            let sent = due.max(free);
            free = sent + if index == 20 { 500 } else { 1 };
            tally.record(moments(due, sent, free), success());
        }
        let over = |histogram: &Histogram<u64>| histogram.count_between(50_000_000, LONGEST);
        assert_eq!(over(&tally.service), 1);
        // 500 ms at 200 ms; the queue shrinks by 9 ms for each request after it: 45 of them over 50 ms too.
        assert!((45..=52).contains(&over(&tally.response)), "{}", over(&tally.response));
        assert!(tally.service.value_at_quantile(0.95) < 2_000_000);
        assert!(tally.response.value_at_quantile(0.95) > 400_000_000);
    }

    #[test]
    fn errors_are_counted_by_kind_and_stay_out_of_the_times() {
        let mut tally = Tally::new().unwrap();
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let words = br#"{"error":"full"}"#;
        let refusal = || {
            Ok(Answer {
                status,
                headers: HeaderMap::new(),
                received: 3,
                refusal: Some(words.to_vec()),
                cached: Some(false),
            })
        };
        tally.record(moments(0, 0, 9), refusal());
        tally.record(moments(0, 0, 1), Err(Fault::Timeout));
        tally.record(moments(0, 0, 1), Err(Fault::Broken("b".into())));
        tally.record_unsent(Duration::from_millis(20));
        let mut sum = Tally::new().unwrap();
        sum.record(moments(0, 0, 1), success());
        sum.merge(&tally);
        sum.merge(&tally);
        assert_eq!((sum.succeeded(), sum.failed(), sum.sent(), sum.received), (1, 8, 7, 16));
        assert_eq!((sum.errors[&ErrorKind::Status(503)], sum.cached), (2, (1, 1)));
        assert_eq!(sum.first_error.as_deref(), Some("full (HTTP 503 Service Unavailable)"));
        assert_eq!(sum.last_finished, Duration::from_millis(20));
    }

    #[test]
    fn absurd_times_are_kept_within_the_bounds() {
        let mut tally = Tally::new().unwrap();
        tally.record(moments(9, 9, 0), success());
        let late = Moments { intended: Duration::ZERO, sent: Duration::ZERO, finished: Duration::MAX };
        tally.record(late, success());
        assert_eq!(tally.succeeded(), 2);
    }
}
