//! One request at the cache.
//!
//! Owns what of the request matters there, and what became of it. It is made for every request that a client sends;
//! what the host asks by itself (warm-up, mirrors) has one without a cache.

use std::time::Instant;

use super::Cache;
use super::key::{Key, Owner, Scope, Seed, Subject};
use super::question::{Answered, Question};
use super::story::Story;
use super::wish::Wish;
use crate::config::{CachePolicy, CacheScope};

/// From this size on, hashing takes so long that other connections of the thread must not wait for it.
const HEAVY: usize = 1 << 20;

/// See the module.
#[derive(Clone, Debug)]
pub struct Visit {
    place: Option<Place>,
    /// When the server gives up, whatever the client's own patience: a computation that others may wait for too has
    /// this much time.
    until: Option<Instant>,
    story: Option<Story>,
    /// When the remembered answer was computed that it got.
    oldest_ms: Option<u64>,
}

#[derive(Clone, Debug)]
struct Place {
    cache: Cache,
    wish: Wish,
    /// None of somebody who has not shown who it is.
    owner: Option<Owner>,
}

impl Visit {
    /// Of a client; without an owner, of one who has not shown who it is.
    pub fn new(cache: &Cache, wish: Wish, owner: Option<Owner>) -> Self {
        Self {
            place: Some(Place { cache: cache.clone(), wish, owner }),
            until: None,
            story: None,
            oldest_ms: None,
        }
    }

    /// Of a request that neither gets a remembered answer nor leaves one.
    pub const fn none() -> Self {
        Self { place: None, until: None, story: None, oldest_ms: None }
    }

    /// Sets when the server gives up on the request.
    pub fn set_until(&mut self, until: Instant) {
        self.until = Some(until);
    }

    /// What became of it; `None` if there was nothing to be remembered.
    pub fn story(&self) -> Option<&Story> {
        self.story.as_ref()
    }

    /// When the remembered answer was computed that it got, in milliseconds since 1970; `None` if it is a new one.
    pub fn oldest_ms(&self) -> Option<u64> {
        self.oldest_ms
    }

    /// Notes what became of it.
    pub fn tell(&mut self, answered: &Answered) {
        self.story = Some(answered.story);
        self.oldest_ms = answered.oldest_ms;
    }

    /// Whether it takes nothing but a remembered answer.
    pub fn only_if_cached(&self) -> bool {
        self.place.as_ref().is_some_and(|place| place.wish.only_if_cached)
    }

    /// Notes that there is no remembered answer, and that it takes no other.
    pub fn tell_absent(&mut self) {
        self.story = Some(Story::Absent);
    }

    /// The same for a part of this request.
    #[must_use]
    pub fn part(&self) -> Self {
        Self { story: None, oldest_ms: None, ..self.clone() }
    }

    /// The question for a remembered answer to this, if the model's answers are remembered.
    pub fn question(
        &self,
        model: &str,
        settings: CachePolicy,
        seed: &Seed,
        subject: Subject<'_>,
        deadline: Instant,
    ) -> Option<Question> {
        let Place { cache, wish, owner } = self.place.as_ref()?;
        settings.ttl?;
        let (shelf, began) = (cache.shelf(model), Instant::now());
        let epoch = cache.0.epochs.of(model);
        let owner = owner.as_ref().filter(|_| settings.scope == CacheScope::Caller);
        // Who shows nothing may be anybody: nothing is kept for all of them as if they were one.
        let is_nobodys = owner.is_none() && settings.scope == CacheScope::Caller;
        let make = || Key::new(seed, Scope { owner, epoch }, subject);
        let key = (!wish.no_store && !is_nobodys).then(|| off_the_reactor(subject.size(), make));
        let until = self.until.unwrap_or(deadline).max(deadline);
        Some(Question { cache: cache.clone(), shelf, settings, wish: *wish, key, epoch, began, until })
    }
}

/// Work on so many bytes, where it holds up nobody else.
pub(super) fn off_the_reactor<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let has_others =
        || Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes >= HEAVY && has_others() { tokio::task::block_in_place(work) } else { work() }
}
