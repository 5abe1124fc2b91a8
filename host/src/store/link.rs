//! The connection that all commands share, kept alive in the background.
//!
//! Owns when it is made, replaced and given up, by the rules of `breaker.rs`. A request finds a connection that
//! serves, or none; it never waits for one to be made.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use redis::{PushInfo, PushKind};
use tokio::sync::Notify;

use super::breaker::{Breaker, Next};
use super::dial::{Connection, Dial};
use super::error::Meaning;
use super::words::Words;
use crate::telemetry::StoreMetrics;

/// A connection that serves.
pub(super) struct Live {
    /// Which one it is, so that what is told of it later counts only for it.
    pub(super) number: u64,
    pub(super) connection: Connection,
}

/// See the module.
pub(super) struct Link {
    dial: Arc<Dial>,
    breaker: Mutex<Breaker>,
    live: ArcSwapOption<Live>,
    /// That the breaker has opened, or that a renewal is due.
    told: Notify,
    renewal: AtomicBool,
    words: Words,
    metrics: StoreMetrics,
}

impl Link {
    pub(super) fn new(dial: Arc<Dial>, metrics: StoreMetrics) -> Arc<Self> {
        Arc::new(Self {
            dial,
            breaker: Mutex::new(Breaker::new(Instant::now())),
            live: ArcSwapOption::empty(),
            told: Notify::new(),
            renewal: AtomicBool::new(false),
            words: Words::default(),
            metrics,
        })
    }

    /// The connection that serves; `None` while there is none.
    pub(super) fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    /// The server answered over this connection.
    pub(super) fn answered(&self, number: u64) {
        self.breaker().answered(number);
    }

    /// A command over this connection failed.
    pub(super) fn failed(&self, number: u64, meaning: Meaning, reason: &str) {
        let now = Instant::now();
        match meaning {
            Meaning::Answers => {
                self.breaker().answered(number);
                self.words.refused(reason, now);
            }
            Meaning::Misplaced => {
                self.breaker().answered(number);
                self.words.refused(reason, now);
                if self.breaker().renews(number, now) {
                    self.renewal.store(true, Ordering::Relaxed);
                    self.told.notify_one();
                }
            }
            Meaning::Doubtful => self.open_if(reason, |breaker| breaker.failed(number, now)),
            Meaning::Broken => self.lost(number, reason),
        }
    }

    /// The connection has ended.
    fn lost(&self, number: u64, reason: &str) {
        self.open_if(reason, |breaker| breaker.lost(number, Instant::now()));
    }

    /// Takes the connection away if the breaker opens. Both at once: what is taken away must not be the next one.
    fn open_if(&self, reason: &str, opens: impl FnOnce(&mut Breaker) -> bool) {
        let mut breaker = self.breaker();
        if !opens(&mut breaker) {
            return;
        }
        self.live.store(None);
        self.metrics.opened();
        drop(breaker);
        self.words.down(reason);
        self.told.notify_one();
    }

    /// Keeps a connection for as long as it is polled.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            let next = self.breaker().next();
            match next {
                Next::Rest => self.told.notified().await,
                Next::Probe(at) => {
                    tokio::time::sleep_until(at.into()).await;
                    self.breaker().probes();
                    if let Err(reason) = self.connect().await {
                        self.breaker().refused(Instant::now());
                        self.words.down(&reason);
                    }
                }
            }
            if self.renewal.swap(false, Ordering::Relaxed)
                && let Err(reason) = self.connect().await
            {
                self.words.refused(&reason, Instant::now());
            }
        }
    }

    /// Makes a connection and has it serve.
    async fn connect(self: &Arc<Self>) -> Result<(), String> {
        let end = Arc::new(End {
            link: Arc::downgrade(self),
            number: AtomicU64::new(0),
            came: AtomicBool::new(false),
        });
        let hears = Arc::clone(&end);
        let connecting = self.dial.commands(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                hears.tell();
            }
            Ok::<(), redis::aio::SendError>(())
        });
        let made = connecting.await;
        self.metrics.connected(made.is_ok());
        let connection = made?;
        let mut breaker = self.breaker();
        let number = breaker.connected(Instant::now());
        self.words.up();
        self.metrics.up(true);
        self.live.store(Some(Arc::new(Live { number, connection })));
        drop(breaker);
        end.number.store(number, Ordering::SeqCst);
        if end.came.load(Ordering::SeqCst) {
            end.tell();
        }
        Ok(())
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears of a connection's end, which may come before the connection has its number.
struct End {
    link: Weak<Link>,
    number: AtomicU64,
    came: AtomicBool,
}

impl End {
    fn tell(&self) {
        self.came.store(true, Ordering::SeqCst);
        let number = self.number.load(Ordering::SeqCst);
        if let Some(link) = self.link.upgrade().filter(|_| number != 0) {
            link.lost(number, "the server closed the connection");
        }
    }
}
