//! The bytes of all requests together.
//!
//! Owns the one bound over all connections. Nobody waits for memory: what does not fit is refused at once, so
//! that requests which hold a part of it can never wait for each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

use crate::error::{Error, ErrorCode};

/// How many bytes requests may hold, and how many they do. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MemoryBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    used: AtomicUsize,
    refused: AtomicU64,
    /// Reservations of answers that are out.
    answers: AtomicUsize,
}

impl MemoryBudget {
    /// A budget of which nothing is used.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner {
            most,
            used: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            answers: AtomicUsize::new(0),
        }))
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.0.used.load(Relaxed)
    }

    /// How often bytes were refused.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Relaxed)
    }

    /// A reservation of nothing, to be grown.
    pub fn nothing(&self) -> Reservation {
        Reservation { budget: self.clone(), bytes: 0, is_answer: false }
    }

    /// Takes so many bytes until the reservation is dropped.
    ///
    /// # Errors
    /// `Unavailable` if they are not there.
    pub fn reserve(&self, bytes: usize) -> Result<Reservation, Error> {
        let mut reservation = self.nothing();
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    /// Takes the bytes of an answer until the reservation is dropped. While no other answer is out, they are always
    /// there: what has been worked out is not refused for ever.
    ///
    /// # Errors
    /// `Unavailable` if they are not there.
    pub fn reserve_answer(&self, bytes: usize) -> Result<Reservation, Error> {
        let is_alone = self.0.answers.fetch_add(1, Relaxed) == 0;
        let mut reservation = Reservation { budget: self.clone(), bytes: 0, is_answer: true };
        if is_alone {
            self.0.used.fetch_add(bytes, Relaxed);
            reservation.bytes = bytes;
        } else {
            reservation.grow(bytes)?;
        }
        Ok(reservation)
    }

    /// Whether so many bytes are there at the moment.
    ///
    /// # Errors
    /// `Unavailable` if they are not.
    pub fn check(&self, bytes: usize) -> Result<(), Error> {
        if bytes <= self.0.most.saturating_sub(self.used()) { Ok(()) } else { Err(self.refusal()) }
    }

    fn refusal(&self) -> Error {
        self.0.refused.fetch_add(1, Relaxed);
        let message = format!(
            "the requests that are being served fill the memory that they may use, {} MiB (server.max_memory); \
             try again",
            self.0.most >> 20
        );
        Error::new(ErrorCode::Unavailable, message)
    }
}

/// Bytes of a [`MemoryBudget`], given back when this is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: MemoryBudget,
    bytes: usize,
    is_answer: bool,
}

impl Reservation {
    /// Takes more bytes, until there are so many in all.
    ///
    /// # Errors
    /// As [`Reservation::grow`].
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), Error> {
        self.grow(bytes.saturating_sub(self.bytes))
    }

    /// Takes more bytes.
    ///
    /// # Errors
    /// `Unavailable` if they are not there; what was taken before stays.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        let inner = &self.budget.0;
        let taken = inner.used.fetch_update(Relaxed, Relaxed, |used| {
            used.checked_add(bytes).filter(|&after| after <= inner.most)
        });
        if taken.is_err() {
            return Err(self.budget.refusal());
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Takes a part of it out, as a reservation of its own; all of it if there is less.
    pub fn split(&mut self, bytes: usize) -> Self {
        let part = bytes.min(self.bytes);
        self.bytes -= part;
        Self { budget: self.budget.clone(), bytes: part, is_answer: false }
    }

    /// The same bytes, which give the reservation back when the last part of them is dropped.
    pub fn hold(self, bytes: Bytes) -> Bytes {
        if bytes.is_empty() { bytes } else { Bytes::from_owner(Held { bytes, _reservation: self }) }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Relaxed);
        if self.is_answer {
            self.budget.0.answers.fetch_sub(1, Relaxed);
        }
    }
}

struct Held {
    bytes: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_dropped_can_be_had_again() {
        let budget = MemoryBudget::new(100);
        let mut first = budget.reserve(60).unwrap();
        assert!(budget.check(40).is_ok());
        assert_eq!(budget.check(41).unwrap_err().code, ErrorCode::Unavailable);
        assert!(budget.reserve(41).unwrap_err().message.contains("server.max_memory"));
        first.grow(40).unwrap();
        assert!(first.grow(1).is_err() && first.grow(usize::MAX).is_err());
        assert_eq!(budget.used(), 100);
        let held = first.hold(Bytes::from_static(b"abcdef"));
        let part = held.slice(2..4);
        drop(held);
        assert_eq!((budget.used(), &part[..]), (100, &b"cd"[..]), "a part keeps it");
        drop(part);
        assert_eq!(budget.used(), 0);
        drop(budget.reserve(10).unwrap().hold(Bytes::new()));
        assert_eq!(budget.used(), 0);
        let mut whole = budget.reserve(10).unwrap();
        let part = whole.split(4);
        drop(whole);
        assert_eq!(budget.used(), 4);
        drop(part);
        let mut whole = budget.reserve(10).unwrap();
        drop((whole.split(11), whole));
        assert_eq!(budget.used(), 0);
    }

    proptest! {
        #[test]
        fn no_more_than_the_budget_is_ever_out(steps in proptest::collection::vec((any::<bool>(), 0_usize..80), 0..200)) {
            let budget = MemoryBudget::new(200);
            let mut out: Vec<Reservation> = Vec::new();
            for (takes, size) in steps {
                if takes {
                    let fits = budget.used() + size <= 200;
                    let taken = budget.reserve(size);
                    prop_assert_eq!(taken.is_ok(), fits);
                    out.extend(taken.ok());
                } else if !out.is_empty() {
                    out.swap_remove(size % out.len());
                }
                prop_assert_eq!(budget.used(), out.iter().map(|one| one.bytes).sum::<usize>());
                prop_assert!(budget.used() <= 200);
            }
        }
    }
}
