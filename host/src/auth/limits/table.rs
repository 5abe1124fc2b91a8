//! The accounts that are known.
//!
//! Owns their number. When there is no room, those go that are as new; if there are none, all further callers share one
//! account until there are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::DefaultClock;
use xxhash_rust::xxh3::xxh3_64;

use super::account::{Account, Plan};
use super::board::{Board, Place};

/// Parts with a lock of their own.
const SHARDS: usize = 16;
/// From one search for accounts to forget to the next, in each part.
const SWEEP: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Shard {
    accounts: HashMap<Box<str>, Arc<Account>>,
    swept: Option<Instant>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    shards: [Mutex<Shard>; SHARDS],
    /// Accounts of one part.
    most: usize,
    /// The account of all for whom there is no room.
    common: OnceLock<Arc<Account>>,
    clock: DefaultClock,
    /// Where accounts are shared with other nodes, and as what.
    board: Option<(Arc<Board>, &'static str)>,
}

impl Table {
    /// At most `most` accounts, rounded up to a multiple of the parts. `board`: where they are shared with other nodes,
    /// and as accounts of what.
    pub(super) fn new(most: usize, board: Option<(Arc<Board>, &'static str)>) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            most: most.div_ceil(SHARDS),
            common: OnceLock::new(),
            clock: DefaultClock::default(),
            board,
        }
    }

    /// The account of this name.
    pub(super) fn account(&self, name: &str, plan: &Plan) -> Arc<Account> {
        let at = usize::try_from(xxh3_64(name.as_bytes()) % SHARDS as u64).unwrap_or_default();
        let mut shard = self.shards[at].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = shard.accounts.get(name) {
            return Arc::clone(account);
        }
        if shard.accounts.len() >= self.most {
            shard.sweep();
        }
        if shard.accounts.len() >= self.most {
            return Arc::clone(self.common.get_or_init(|| Arc::new(Account::new(plan, &self.clock, None))));
        }
        let place = self.board.as_ref().map(|(board, of)| Place::new(board, of, name));
        let account = Arc::new(Account::new(plan, &self.clock, place));
        shard.accounts.insert(name.into(), Arc::clone(&account));
        account
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let shards = self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner));
        shards.map(|shard| shard.accounts.len()).sum()
    }
}

impl Shard {
    /// Forgets accounts that are as new and that nobody holds.
    fn sweep(&mut self) {
        if self.swept.is_some_and(|swept| swept.elapsed() < SWEEP) {
            return;
        }
        self.accounts.retain(|_, account| Arc::strong_count(account) > 1 || !account.is_as_new());
        self.swept = Some(Instant::now());
    }
}
