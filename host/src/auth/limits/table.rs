//! The accounts that are known.
//!
//! Owns their number. When there is no room, those go that are as new; if there are none, all further callers with the
//! same limits share one account until there are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
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
    /// The accounts of all for whom there is no room, one for each plan. Plans are those of the configuration.
    common: Mutex<Vec<(Plan, Arc<Account>)>>,
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
            common: Mutex::default(),
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
            drop(shard);
            return self.common(plan);
        }
        let place = self.board.as_ref().map(|(board, of)| Place::new(board, of, name));
        let account = Arc::new(Account::new(plan, &self.clock, place));
        shard.accounts.insert(name.into(), Arc::clone(&account));
        account
    }

    /// The account that all share who have this plan and no room.
    fn common(&self, plan: &Plan) -> Arc<Account> {
        let mut common = self.common.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, account)) = common.iter().find(|(own, _)| own == plan) {
            return Arc::clone(account);
        }
        let account = Arc::new(Account::new(plan, &self.clock, None));
        common.push((plan.clone(), Arc::clone(&account)));
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
