//! From a question to its answer: remembered, being computed for another, or computed.
//!
//! Owns the order in which these are tried, and what of a computation is remembered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Cache;
use super::entry::{Entry, Value, now_ms};
use super::key::Key;
use super::lease::Leased;
use super::memory::{Held, Shelf};
use super::shared::Elsewhere;
use super::story::{Story, Why};
use super::wish::Wish;
use crate::config::CachePolicy;
use crate::error::{Error, ErrorCode};
use crate::pipeline::StageTimes;
use crate::telemetry::{CacheLevel, CacheOutcome};

/// How often a request joins others before it goes its own way.
const JOINS: usize = 2;

/// What a computation gave.
#[derive(Clone, Debug)]
pub struct Computed {
    /// The answer, or why there is none.
    pub outcome: Result<Value, Error>,
    /// Whether a failure depends on the request alone, so that it may be remembered.
    pub is_refusal: bool,
    /// When the oldest remembered part of it was computed, if it has one.
    pub oldest_ms: Option<u64>,
    /// Where its time went.
    pub times: StageTimes,
}

/// What came of a computation that others may wait for.
#[derive(Debug)]
pub(super) struct Landed {
    outcome: Result<Value, Error>,
    story: Story,
    /// When the oldest part of it was computed.
    born_ms: u64,
    times: StageTimes,
}

/// An answer, and how it came to be.
#[derive(Debug)]
pub struct Answered {
    /// The answer, or why there is none.
    pub outcome: Result<Value, Error>,
    /// What became of the question.
    pub story: Story,
    /// When the answer was computed, if it is a remembered one.
    pub oldest_ms: Option<u64>,
    /// Where its computation's time went, if it was computed for this question.
    pub times: StageTimes,
    /// What asking and remembering took.
    pub recall: Duration,
}

/// What computes an answer, for whoever comes to need it first: a flight, or whoever was given one past its time.
struct Work<W>(Arc<Mutex<Option<W>>>);

impl<W> Work<W> {
    fn new(work: W) -> Self {
        Self(Arc::new(Mutex::new(Some(work))))
    }

    fn take(&self) -> Option<W> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<W> Clone for Work<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A question for a remembered answer.
#[derive(Clone, Debug)]
pub struct Question {
    pub(super) cache: Cache,
    pub(super) shelf: Arc<Shelf>,
    pub(super) settings: CachePolicy,
    pub(super) wish: Wish,
    /// None for one that is only counted.
    pub(super) key: Option<Key>,
    /// Since when what is remembered of the model counted as it was asked.
    pub(super) epoch: u64,
    pub(super) began: Instant,
    /// When a computation that others may wait for is given up.
    pub(super) until: Instant,
}

impl Question {
    /// The answer until `deadline`. `work` computes it until the time that it gets, if it has to be computed; it goes
    /// on without the asker for as long as others wait for the same.
    pub async fn answer<W, F>(self, deadline: Instant, work: W) -> Answered
    where
        W: FnOnce(Instant) -> F + Send + 'static,
        F: Future<Output = Computed> + Send + 'static,
    {
        let Some(key) = self.key else {
            self.count(CacheOutcome::Bypass);
            if self.wish.only_if_cached {
                return self.absent();
            }
            let why = if self.wish.no_store { Why::Bypass } else { Why::Anonymous };
            return self.alone(None, work(deadline), why).await;
        };
        if self.wish.no_cache {
            self.count(CacheOutcome::Bypass);
            if self.wish.only_if_cached {
                return self.absent();
            }
            return self.alone(Some(key), work(deadline), Why::Request).await;
        }
        let found = self.look(&key);
        self.shelf.series.took(CacheLevel::Memory, self.began.elapsed());
        let work = Work::new(work);
        let why = match found {
            Ok(held) => return self.hit(key, &held.entry, &work),
            Err(why) => why,
        };
        if self.wish.only_if_cached {
            self.count(CacheOutcome::Miss);
            return self.fetched_or_absent(key, &work).await;
        }
        self.together(key, why, deadline, work).await
    }

    /// Waits for the one computation of all who ask the same now, and begins it if there is none.
    async fn together<W, F>(self, key: Key, why: Why, deadline: Instant, work: Work<W>) -> Answered
    where
        W: FnOnce(Instant) -> F + Send + 'static,
        F: Future<Output = Computed> + Send + 'static,
    {
        let looked = self.began.elapsed();
        for _ in 0..JOINS {
            let flights = self.cache.0.flights.clone();
            let mut seat = flights.board(key, || self.clone().journey(key, why, deadline, work.clone()));
            let landed = tokio::time::timeout_at(deadline.into(), seat.landed()).await;
            let Ok(landed) = landed else {
                self.count(CacheOutcome::Miss);
                let late = too_late(self.shelf.model());
                return self.failed(late, why);
            };
            if let Some(landed) = landed.filter(|landed| seat.leads() || self.takes(landed)) {
                if seat.leads() && landed.story.is_stale() {
                    self.refresh(key, &work);
                }
                return self.arrived(&landed, seat.leads(), looked);
            }
            if seat.leads() {
                self.count(CacheOutcome::Miss);
                return self.failed(Error::internal("the computation of an answer broke off"), why);
            }
        }
        let Some(work) = work.take() else {
            return self.failed(Error::internal("the computation of an answer was lost"), why);
        };
        self.count(CacheOutcome::Miss);
        self.alone(Some(key), work(deadline), why).await
    }

    /// The computation that others may wait for. Whoever began it has time until `deadline`.
    async fn journey<W, F>(self, key: Key, why: Why, deadline: Instant, work: Work<W>) -> Arc<Landed>
    where
        W: FnOnce(Instant) -> F,
        F: Future<Output = Computed>,
    {
        // Since this question was asked, somebody else's answer may have come.
        if let Ok(held) = self.look(&key) {
            let entry = &held.entry;
            let (story, outcome) = (self.hit_story(CacheLevel::Memory, entry), given(entry.value.clone()));
            let times = StageTimes::default();
            return Arc::new(Landed { outcome, story, born_ms: entry.born_ms, times });
        }
        let mut leased = None;
        if let Some(remote) = self.cache.remote() {
            match self.elsewhere(remote, &key, deadline).await {
                Elsewhere::Mine(lease) => leased = lease,
                Elsewhere::Answer(entry) => return Arc::new(self.brought(key, entry)),
            }
        }
        let Some(work) = work.take() else {
            let outcome = Err(Error::internal("a computation began without its work"));
            let story = Story::Computed { why, collapsed: false, stored: false, model_hit: false };
            return Arc::new(Landed { outcome, story, born_ms: 0, times: StageTimes::default() });
        };
        let computed = work(self.until).await;
        let (born_ms, stored) = self.keep(key, &computed, leased);
        let model_hit = computed.oldest_ms.is_some();
        let story = Story::Computed { why, collapsed: false, stored, model_hit };
        Arc::new(Landed { outcome: computed.outcome, story, born_ms, times: computed.times })
    }

    /// An answer that came from another node, which is remembered here, too.
    fn brought(&self, key: Key, entry: Entry) -> Landed {
        let (story, outcome) = (self.hit_story(CacheLevel::Redis, &entry), given(entry.value.clone()));
        let (born_ms, times) = (entry.born_ms, StageTimes::default());
        if self.is_current() {
            self.cache.0.memory.insert(key, entry, &self.shelf, self.epoch);
        }
        Landed { outcome, story, born_ms, times }
    }

    /// For who takes nothing but a remembered answer: the one of another node, or none.
    async fn fetched_or_absent<W, F>(self, key: Key, work: &Work<W>) -> Answered
    where
        W: FnOnce(Instant) -> F + Send + 'static,
        F: Future<Output = Computed> + Send + 'static,
    {
        let entry = match self.cache.remote() {
            Some(remote) => self.fetch(remote, &key).await,
            None => None,
        };
        let Some(entry) = entry else {
            return self.absent();
        };
        let landed = self.brought(key, entry);
        if landed.story.is_stale() {
            self.refresh(key, work);
        }
        self.answered_by(&landed, self.began.elapsed())
    }

    /// Whether the model has not been purged since it was asked.
    pub(super) fn is_current(&self) -> bool {
        self.cache.0.epochs.of(self.shelf.model()) == self.epoch
    }

    /// The computation of this request alone.
    async fn alone(self, key: Option<Key>, work: impl Future<Output = Computed>, why: Why) -> Answered {
        let looked = self.began.elapsed();
        let computed = work.await;
        let began = Instant::now();
        let stored = key.is_some_and(|key| self.keep(key, &computed, None).1);
        let model_hit = computed.oldest_ms.is_some();
        Answered {
            story: Story::Computed { why, collapsed: false, stored, model_hit },
            outcome: computed.outcome,
            oldest_ms: computed.oldest_ms,
            times: computed.times,
            recall: looked + began.elapsed(),
        }
    }

    /// The answer in memory, if there is one that the request takes; else why there is none.
    fn look(&self, key: &Key) -> Result<Arc<Held>, Why> {
        let held = self.cache.0.memory.get(key).ok_or(Why::Miss)?;
        let age = held.entry.age(now_ms());
        let (ttl, stale) = self.times_of(&held.entry);
        if self.wish.takes(age, ttl, stale) {
            return Ok(held);
        }
        Err(if age >= ttl { Why::Stale } else { Why::Request })
    }

    /// An entry's times, none longer than the settings have it now.
    pub(super) fn times_of(&self, entry: &Entry) -> (Duration, Duration) {
        let ttl = match entry.value {
            Value::Refusal(_) => self.settings.negative,
            _ => self.settings.ttl.unwrap_or_default(),
        };
        (entry.ttl.min(ttl), entry.stale.min(self.settings.stale))
    }

    fn hit_story(&self, level: CacheLevel, entry: &Entry) -> Story {
        let (age, ttl) = (entry.age(now_ms()), self.times_of(entry).0);
        Story::Hit { level, age, ttl }
    }

    /// Gives a remembered answer. If its time is over, it is computed anew meanwhile.
    fn hit<W, F>(self, key: Key, entry: &Entry, work: &Work<W>) -> Answered
    where
        W: FnOnce(Instant) -> F + Send + 'static,
        F: Future<Output = Computed> + Send + 'static,
    {
        let story = self.hit_story(CacheLevel::Memory, entry);
        self.count(if story.is_stale() { CacheOutcome::Stale } else { CacheOutcome::Hit });
        let recall = self.began.elapsed();
        if story.is_stale() {
            self.refresh(key, work);
        }
        let (outcome, times) = (given(entry.value.clone()), StageTimes::default());
        Answered { outcome, story, oldest_ms: Some(entry.born_ms), times, recall }
    }

    /// Computes an answer anew that was given past its time, unless that is being done.
    fn refresh<W, F>(&self, key: Key, work: &Work<W>)
    where
        W: FnOnce(Instant) -> F + Send + 'static,
        F: Future<Output = Computed> + Send + 'static,
    {
        let wish = Wish { max_stale: Some(Duration::ZERO), ..Wish::default() };
        let (fresh, until, work) = (Self { wish, ..self.clone() }, self.until, work.clone());
        self.cache.0.flights.send(key, move || fresh.journey(key, Why::Stale, until, work));
    }

    /// Whether what came of another request's computation is this one's answer.
    fn takes(&self, landed: &Landed) -> bool {
        let is_new = matches!(landed.story, Story::Computed { model_hit: false, .. });
        match &landed.outcome {
            // Its time, its place: another request may have better luck.
            Err(error) => !matches!(
                error.code,
                ErrorCode::DeadlineExceeded | ErrorCode::Cancelled | ErrorCode::ResourceExhausted
            ),
            Ok(_) if is_new => true,
            Ok(_) => {
                let age = Duration::from_millis(now_ms().saturating_sub(landed.born_ms));
                self.wish.takes(age, self.settings.ttl.unwrap_or_default(), self.settings.stale)
            }
        }
    }

    /// What came of a computation, for one who waited for it.
    fn arrived(&self, landed: &Landed, leads: bool, looked: Duration) -> Answered {
        let story = match landed.story {
            Story::Computed { why, model_hit, .. } if !leads => {
                Story::Computed { why, model_hit, collapsed: true, stored: false }
            }
            story => story,
        };
        self.count(match story {
            Story::Hit { level: CacheLevel::Memory, .. } => CacheOutcome::Hit,
            Story::Hit { .. } => CacheOutcome::Miss,
            _ if leads => CacheOutcome::Miss,
            _ => CacheOutcome::Coalesced,
        });
        let recall = if leads { looked } else { self.began.elapsed() };
        let times = if leads { landed.times } else { StageTimes::default() };
        Answered { story, times, ..self.answered_by(landed, recall) }
    }

    fn answered_by(&self, landed: &Landed, recall: Duration) -> Answered {
        let is_old = matches!(landed.story, Story::Hit { .. } | Story::Computed { model_hit: true, .. });
        Answered {
            outcome: landed.outcome.clone(),
            story: landed.story,
            oldest_ms: is_old.then_some(landed.born_ms),
            times: landed.times,
            recall,
        }
    }

    /// Remembers a computation if it may be. Says when the oldest part of it was computed, and whether it is.
    fn keep(&self, key: Key, computed: &Computed, leased: Option<Leased>) -> (u64, bool) {
        let born_ms = computed.oldest_ms.unwrap_or_else(now_ms);
        let refusal;
        let (value, ttl, stale) = match &computed.outcome {
            Ok(value) => (value, self.settings.ttl.unwrap_or_default(), self.settings.stale),
            Err(error) if computed.is_refusal => {
                refusal = Value::Refusal(error.clone());
                (&refusal, self.settings.negative, Duration::ZERO)
            }
            Err(_) => return (born_ms, false),
        };
        let outcome = if value.size() as u64 > self.settings.max_entry.as_u64() {
            "too_large"
        } else if !self.is_current() {
            "purged"
        } else {
            let entry = Entry { value: value.compact(), born_ms, ttl, stale };
            if entry.lifetime(now_ms()).is_zero() {
                return (born_ms, false);
            }
            if let Some(remote) = self.cache.remote() {
                self.share(remote, &key, &entry, leased);
            }
            self.cache.0.memory.insert(key, entry, &self.shelf, self.epoch);
            "stored"
        };
        self.shelf.series.stored(CacheLevel::Memory, outcome);
        (born_ms, outcome == "stored")
    }

    fn absent(self) -> Answered {
        let message = "there is no remembered answer (cache-control: only-if-cached)";
        let outcome = Err(Error::new(ErrorCode::NotCached, message));
        let (times, recall) = (StageTimes::default(), self.began.elapsed());
        Answered { outcome, story: Story::Absent, oldest_ms: None, times, recall }
    }

    fn failed(self, error: Error, why: Why) -> Answered {
        let story = Story::Computed { why, collapsed: false, stored: false, model_hit: false };
        let (times, recall) = (StageTimes::default(), self.began.elapsed());
        Answered { outcome: Err(error), story, oldest_ms: None, times, recall }
    }

    fn count(&self, outcome: CacheOutcome) {
        self.shelf.series.asked(CacheLevel::Memory, outcome);
    }
}

/// A remembered value as an outcome.
fn given(value: Value) -> Result<Value, Error> {
    match value {
        Value::Refusal(error) => Err(error),
        value => Ok(value),
    }
}

fn too_late(model: &str) -> Error {
    Error::new(ErrorCode::DeadlineExceeded, format!("the request's time ran out at model '{model}'"))
}
