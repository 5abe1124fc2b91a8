//! Tokens that have been verified, so that the next request of the same caller costs a hash.
//!
//! Owns how many are kept and for how long: never beyond a token's own time or a change of keys. Tokens are kept by
//! their SHA-256 alone. What was refused is not kept, so that nobody can push callers out with garbage.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest as _, Sha256};

use super::identity::Identity;
use super::token::Believed;

/// Parts with a lock of their own.
const SHARDS: usize = 16;
/// Tokens of one part in each of its two halves.
const HALF: usize = 512;

type Hash = [u8; 32];

#[derive(Clone, Debug)]
struct Entry {
    identity: Arc<Identity>,
    until: Instant,
    epoch: u64,
}

/// The tokens of late, and those of before: when the former are full, they become the latter.
#[derive(Debug, Default)]
struct Shard {
    late: HashMap<Hash, Entry>,
    before: HashMap<Hash, Entry>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct VerifiedTokens {
    shards: [Mutex<Shard>; SHARDS],
    keep: Duration,
}

/// A token's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(Hash);

impl VerifiedTokens {
    /// Keeps each token for this long; none if it is zero.
    pub(super) fn new(keep: Duration) -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), keep }
    }

    /// Where a token is kept.
    pub(super) fn place(token: &str) -> Place {
        Place(Sha256::digest(token.as_bytes()).into())
    }

    /// Who showed a token before, if that still counts with the keys of this epoch.
    pub(super) fn find(&self, place: Place, epoch: u64) -> Option<Arc<Identity>> {
        let mut shard = self.shard(place);
        let found = match shard.late.get(&place.0) {
            Some(entry) => entry.clone(),
            None => {
                let entry = shard.before.remove(&place.0)?;
                shard.put(place.0, entry.clone());
                entry
            }
        };
        if found.epoch != epoch || found.until <= Instant::now() {
            shard.late.remove(&place.0);
            return None;
        }
        Some(found.identity)
    }

    /// Keeps a token that was verified with the keys of this epoch.
    pub(super) fn keep(&self, place: Place, believed: Believed, epoch: u64) -> Arc<Identity> {
        let identity = Arc::new(believed.identity);
        let left = believed.until.duration_since(SystemTime::now()).unwrap_or_default().min(self.keep);
        if !left.is_zero() {
            let entry = Entry { identity: Arc::clone(&identity), until: Instant::now() + left, epoch };
            self.shard(place).put(place.0, entry);
        }
        identity
    }

    fn shard(&self, place: Place) -> std::sync::MutexGuard<'_, Shard> {
        let at = usize::from(place.0[0]) % SHARDS;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let shards = self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner));
        shards.map(|shard| shard.late.len() + shard.before.len()).sum()
    }
}

impl Shard {
    fn put(&mut self, hash: Hash, entry: Entry) {
        if self.late.len() >= HALF {
            self.before = std::mem::take(&mut self.late);
        }
        self.late.insert(hash, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::super::identity::Kind;
    use super::super::scopes::Scopes;
    use super::*;

    fn believed(subject: &str, left: Duration) -> Believed {
        let identity = Identity::new(Kind::Token, subject.to_owned(), Scopes::default());
        Believed { identity, until: SystemTime::now() + left }
    }

    #[test]
    fn a_token_is_found_until_its_time_or_its_keys_are_over() {
        let tokens = VerifiedTokens::new(Duration::from_secs(60));
        let (one, two) = (VerifiedTokens::place("one"), VerifiedTokens::place("two"));
        tokens.keep(one, believed("ann", Duration::from_secs(60)), 1);
        assert_eq!(tokens.find(one, 1).unwrap().subject, "ann");
        assert!(tokens.find(two, 1).is_none());
        assert!(tokens.find(one, 2).is_none());
        assert!(tokens.find(one, 1).is_none(), "what was found with other keys is gone");
        tokens.keep(
            two,
            Believed { until: SystemTime::now() - Duration::from_secs(1), ..believed("x", Duration::ZERO) },
            1,
        );
        assert!(tokens.find(two, 1).is_none());
        let none = VerifiedTokens::new(Duration::ZERO);
        none.keep(one, believed("ann", Duration::from_secs(60)), 1);
        assert_eq!(none.len(), 0);
    }

    #[test]
    fn only_so_many_are_kept_and_those_that_are_used_stay() {
        let tokens = VerifiedTokens::new(Duration::from_secs(600));
        let mine = VerifiedTokens::place("mine");
        tokens.keep(mine, believed("ann", Duration::from_secs(600)), 1);
        for number in 0..50_000 {
            let other = VerifiedTokens::place(&number.to_string());
            tokens.keep(other, believed("bob", Duration::from_secs(600)), 1);
            assert!(tokens.find(mine, 1).is_some(), "after {number}");
        }
        assert!(tokens.len() <= SHARDS * HALF * 2, "{}", tokens.len());
    }
}
