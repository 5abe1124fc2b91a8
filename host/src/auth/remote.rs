//! A set of keys at a URL, kept fresh.
//!
//! Owns when the URL is asked: at the start, again when its answer is old, and at once when a token names a key that is
//! not known, but for that not sooner than `cooldown` after the last time. A token with an unknown key waits for the answer
//! that is on its way, briefly; tokens with made-up keys can neither hammer the URL nor pile up here. A failure keeps the
//! keys that there are.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::Uri;
use tokio::sync::{Notify, Semaphore, watch};

use super::fetch::{Fetched, fetch};

/// How long a token waits for an answer that is on its way.
const PATIENCE: Duration = Duration::from_secs(2);
/// Tokens that wait at a time.
const MOST_WAITING: usize = 256;
/// The shortest time from one asking to the next, whatever answers say.
const SHORTEST: Duration = Duration::from_secs(5);
/// After a failure; it doubles with each further one.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Asking {
    last: Option<Instant>,
    under_way: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Remote {
    url: Uri,
    refresh: Duration,
    cooldown: Duration,
    asking: Mutex<Asking>,
    wanted: Notify,
    /// Counts the ends of askings.
    ends: watch::Sender<u64>,
    waiting: Semaphore,
}

impl Remote {
    pub(super) fn new(url: Uri, refresh: Duration, cooldown: Duration) -> Self {
        Self {
            url,
            refresh,
            cooldown,
            // The first asking is about to begin.
            asking: Mutex::new(Asking { last: None, under_way: true }),
            wanted: Notify::new(),
            ends: watch::Sender::new(0),
            waiting: Semaphore::new(MOST_WAITING),
        }
    }

    /// Asks for ever. `publish` takes each answer, or says what is wrong with it.
    pub(super) async fn run(self: Arc<Self>, publish: impl Fn(&Bytes) -> Result<usize, String>) {
        let mut failures = 0_u32;
        let mut told = None;
        loop {
            self.lock().under_way = true;
            // A wish that came in just now is granted by this very asking.
            let _ = self.wanted.notified().now_or_never();
            let fetched = fetch(&self.url).await;
            let outcome = fetched.and_then(|Fetched { text, max_age }| Ok((publish(&text)?, max_age)));
            let pause = match outcome {
                Ok((keys, max_age)) => {
                    if failures > 0 || told.is_some() || *self.ends.borrow() == 0 {
                        tracing::info!(url = %self.url, keys, "keys of tokens have been fetched");
                    }
                    (failures, told) = (0, None);
                    // An answer that may not be kept is kept for a while all the same: no request waits for it.
                    max_age.unwrap_or(self.refresh).clamp(SHORTEST.min(self.refresh), self.refresh)
                }
                Err(reason) => {
                    failures = failures.saturating_add(1);
                    if told.as_ref() != Some(&reason) {
                        tracing::warn!(url = %self.url, %reason, "keys of tokens cannot be fetched; those of before stay");
                        told = Some(reason);
                    }
                    RETRY.saturating_mul(1 << failures.min(16).saturating_sub(1)).min(self.refresh)
                }
            };
            self.end();
            // A wish that is refused for now is not remembered: the next token has it again.
            let _ = tokio::time::timeout(pause, self.wanted.notified()).await;
        }
    }

    /// Waits for newer keys, if there may be some soon. False means that there is nothing to wait for.
    pub(super) async fn newer(&self) -> bool {
        let Ok(_place) = self.waiting.try_acquire() else {
            return false;
        };
        let mut ends = self.ends.subscribe();
        if !self.want() {
            return false;
        }
        tokio::time::timeout(PATIENCE, ends.changed()).await.is_ok_and(|changed| changed.is_ok())
    }

    /// Asks for an asking. True if one is under way then.
    fn want(&self) -> bool {
        let mut asking = self.lock();
        if asking.under_way {
            return true;
        }
        if asking.last.is_some_and(|last| last.elapsed() < self.cooldown) {
            return false;
        }
        asking.under_way = true;
        drop(asking);
        self.wanted.notify_one();
        true
    }

    fn end(&self) {
        *self.lock() = Asking { last: Some(Instant::now()), under_way: false };
        self.ends.send_modify(|ends| *ends += 1);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
