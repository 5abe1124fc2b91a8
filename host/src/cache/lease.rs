//! The right to compute an answer alone among all nodes.
//!
//! Owns that it is given back, whatever becomes of whoever asked for it: a request that leaves, and one that was not
//! told in time, may have got it all the same, and nobody else would compute the answer until it ends by itself.

use std::time::Duration;

use super::remote::{Found, Lease, Remote};
use crate::store::StoreError;

/// See the module. Nobody has it until it has been asked for.
#[derive(Debug)]
pub(super) struct Leased {
    remote: Remote,
    key: String,
    token: String,
    time: Duration,
    may_be_held: bool,
}

impl Leased {
    /// Of the answer of this key, for so long.
    pub(super) fn new(remote: &Remote, key: String, time: Duration) -> Self {
        let token = format!("{:016x}", rand::random::<u64>());
        Self { remote: remote.clone(), key, token, time, may_be_held: false }
    }

    /// The answer; where there is none, asks for the right to compute it.
    ///
    /// # Errors
    /// Neither is known.
    pub(super) async fn find_or_take(&mut self, max: usize) -> Result<Found, StoreError> {
        self.may_be_held = true;
        let found = self.remote.find_or_lease(&self.key, max, &self.token, self.time).await;
        let lease = found.as_ref().map(|found| match found {
            Found::Entry(_) => Lease::Theirs,
            Found::None { lease, .. } => *lease,
        });
        self.note(lease);
        found
    }

    /// Asks for the right alone, for whoever does not take the answer that is there.
    ///
    /// # Errors
    /// It is not known.
    pub(super) async fn take(&mut self) -> Result<Lease, StoreError> {
        self.may_be_held = true;
        let lease = self.remote.lease(&self.key, &self.token, self.time).await;
        self.note(lease.as_ref().copied());
        lease
    }

    fn note(&mut self, lease: Result<Lease, &StoreError>) {
        self.may_be_held =
            !matches!(lease, Ok(Lease::Theirs) | Err(StoreError::Open | StoreError::Refused(_)));
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        if !self.may_be_held {
            return;
        }
        let (remote, key, token) = (self.remote.clone(), self.key.clone(), self.token.clone());
        // Without a runtime the process ends, and the lease with its time.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // A Redis that has just begun to answer again, or does not know the script yet, takes longer once.
                if remote.release(&key, &token).await == Err(StoreError::TimedOut) {
                    drop(remote.release(&key, &token).await);
                }
            });
        }
    }
}
