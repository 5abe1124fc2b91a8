//! A few connections beside the shared one, for large values, so that small commands do not wait behind them.
//!
//! Owns how many there are, and that nobody waits for one: where none is free, the value goes over the shared
//! connection this time, and one more is made in the background for the next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::dial::Dial;

/// A connection that lies idle for longer is closed at the next occasion.
const IDLE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(super) struct Asides {
    dial: Arc<Dial>,
    idle: Mutex<Vec<Aside>>,
    seats: Arc<Semaphore>,
}

/// One of the connections, for whoever has it.
#[derive(Debug)]
pub(super) struct Aside {
    pub(super) connection: MultiplexedConnection,
    /// Of the shared connection beside which it was made: after that one has been replaced, this one may lead to
    /// another server.
    number: u64,
    since: Instant,
    _seat: OwnedSemaphorePermit,
}

impl Asides {
    /// At most so many.
    pub(super) fn new(dial: Arc<Dial>, most: usize) -> Arc<Self> {
        Arc::new(Self { dial, idle: Mutex::default(), seats: Arc::new(Semaphore::new(most)) })
    }

    /// A free one; without any, `None`, and one more is made if there may be one.
    pub(super) fn take(self: &Arc<Self>, number: u64) -> Option<Aside> {
        let free = {
            let mut idle = self.idle();
            idle.retain(|aside| aside.number == number && aside.since.elapsed() < IDLE);
            idle.pop()
        };
        if free.is_none()
            && let Ok(seat) = Arc::clone(&self.seats).try_acquire_owned()
        {
            let asides = Arc::clone(self);
            tokio::spawn(async move {
                let nobody = |_: redis::PushInfo| Ok::<(), redis::aio::SendError>(());
                if let Ok(connection) = asides.dial.server(nobody).await {
                    asides.give_back(Aside { connection, number, since: Instant::now(), _seat: seat });
                }
            });
        }
        free
    }

    /// Gives one back that can be used again; one that cannot is dropped instead.
    pub(super) fn give_back(&self, aside: Aside) {
        self.idle().push(Aside { since: Instant::now(), ..aside });
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Aside>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
