//! One computation for all who ask for the same at the same time.
//!
//! Owns who waits for whom. A flight is a task of its own: it belongs to nobody in particular, so that the client that
//! began it may leave. It lasts for as long as somebody has a seat, and is ended when the last one leaves. There are
//! never more flights than requests, but for those that refresh, which are counted. No lock is held while anything is
//! awaited.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{AbortHandle, AbortRegistration, Abortable};
use tokio::sync::watch;

use super::key::Key;

/// Flights that nobody waits for, at a time; a further one is not begun.
pub(super) const MOST_UNATTENDED: usize = 64;

/// The flights under way.
#[derive(Debug)]
pub(super) struct Flights<T>(Arc<Mutex<Table<T>>>);

impl<T> Clone for Flights<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Table { flights: HashMap::new(), begun: 0, unattended: 0 })))
    }
}

#[derive(Debug)]
struct Table<T> {
    flights: HashMap<Key, Flight<T>>,
    /// Numbers them.
    begun: u64,
    unattended: usize,
}

#[derive(Debug)]
struct Flight<T> {
    number: u64,
    seats: usize,
    landing: watch::Receiver<Option<T>>,
    task: AbortHandle,
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// Takes a seat in the flight of this key. If there is none, one begins with what `journey` makes; the seat leads
    /// then.
    pub(super) fn board<F>(&self, key: Key, journey: impl FnOnce() -> F) -> Seat<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut table = lock(&self.0);
        if let Some(flight) = table.flights.get_mut(&key) {
            flight.seats += 1;
            let landing = flight.landing.clone();
            return Seat { flights: self.clone(), key, number: flight.number, landing, leads: false };
        }
        let begun = self.enter(&mut table, key, false);
        drop(table);
        let (number, landing) = (begun.arrival.number, begun.landing.clone());
        begun.depart(journey());
        Seat { flights: self.clone(), key, number, landing, leads: true }
    }

    /// Begins a flight that nobody waits for, unless there is one of this key, or too many of its kind.
    pub(super) fn send<F>(&self, key: Key, journey: impl FnOnce() -> F) -> bool
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut table = lock(&self.0);
        if table.unattended >= MOST_UNATTENDED || table.flights.contains_key(&key) {
            return false;
        }
        table.unattended += 1;
        let begun = self.enter(&mut table, key, true);
        drop(table);
        begun.depart(journey());
        true
    }

    /// Flights under way.
    pub(super) fn count(&self) -> usize {
        lock(&self.0).flights.len()
    }

    /// Puts a flight into the table, which begins once the lock has been given back: a runtime that is shutting down
    /// drops a task where it is spawned, and the flight would want the lock to leave.
    fn enter(&self, table: &mut Table<T>, key: Key, unattended: bool) -> Begun<T> {
        table.begun += 1;
        let number = table.begun;
        let (sender, landing) = watch::channel(None);
        let (task, ending) = AbortHandle::new_pair();
        // One that nobody waits for has a seat that nobody gives up.
        let flight = Flight { number, seats: 1, landing: landing.clone(), task };
        table.flights.insert(key, flight);
        let arrival = Arrival { flights: self.clone(), key, number, unattended, sender };
        Begun { arrival, landing, ending }
    }
}

/// A flight that is in the table, and not yet under way.
struct Begun<T> {
    arrival: Arrival<T>,
    landing: watch::Receiver<Option<T>>,
    ending: AbortRegistration,
}

impl<T: Send + Sync + 'static> Begun<T> {
    fn depart<F>(self, journey: F)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let Self { arrival, ending, .. } = self;
        let flying = async move {
            let landed = journey.await;
            arrival.lands(landed);
        };
        tokio::spawn(Abortable::new(flying, ending));
    }
}

/// Takes a flight out of the table however it ends, and only then tells those who wait: who does not take what came of
/// it, and boards again, must not find it a second time.
struct Arrival<T> {
    flights: Flights<T>,
    key: Key,
    number: u64,
    unattended: bool,
    sender: watch::Sender<Option<T>>,
}

impl<T> Arrival<T> {
    fn lands(mut self, landed: T) {
        self.leave();
        self.sender.send_replace(Some(landed));
    }

    fn leave(&mut self) {
        let mut table = lock(&self.flights.0);
        table.unattended -= usize::from(std::mem::take(&mut self.unattended));
        if table.flights.get(&self.key).is_some_and(|flight| flight.number == self.number) {
            table.flights.remove(&self.key);
        }
    }
}

impl<T> Drop for Arrival<T> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A place among those who wait for a flight.
#[derive(Debug)]
pub(super) struct Seat<T> {
    flights: Flights<T>,
    key: Key,
    number: u64,
    landing: watch::Receiver<Option<T>>,
    leads: bool,
}

impl<T: Clone> Seat<T> {
    /// Whether the flight began for this seat.
    pub(super) fn leads(&self) -> bool {
        self.leads
    }

    /// What came of it; `None` if it broke off.
    pub(super) async fn landed(&mut self) -> Option<T> {
        self.landing.wait_for(Option::is_some).await.ok().and_then(|landed| landed.clone())
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        let mut table = lock(&self.flights.0);
        let Some(flight) = table.flights.get_mut(&self.key).filter(|flight| flight.number == self.number)
        else {
            return;
        };
        flight.seats -= 1;
        if flight.seats > 0 {
            return;
        }
        // Nobody can board it any more once the lock is given back.
        let ended = table.flights.remove(&self.key);
        drop(table);
        if let Some(flight) = ended {
            flight.task.abort();
        }
    }
}

fn lock<T>(table: &Mutex<Table<T>>) -> MutexGuard<'_, Table<T>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}
