//! The accounts that have something to tell other nodes, or to hear from them.
//!
//! Owns that each is on the list once, however many requests it has, and the names under which nodes know accounts:
//! digests, so that a name of any length costs the same, and nobody reads who asks.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::account::Account;
use super::cell::{Cell, Use};
use crate::config::hex;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::auth) struct Board(Mutex<Vec<Arc<Account>>>);

/// An account's place on the board.
#[derive(Debug)]
pub(super) struct Place {
    board: Arc<Board>,
    name: String,
    is_listed: AtomicBool,
}

impl Place {
    /// A place for the account of this name, of callers or of models.
    pub(super) fn new(board: &Arc<Board>, of: &str, name: &str) -> Self {
        let digest = Sha256::digest(format!("{of}\0{name}").as_bytes());
        let name = hex(digest.get(..16).unwrap_or_default());
        Self { board: Arc::clone(board), name, is_listed: AtomicBool::new(false) }
    }

    /// Puts its account on the list, if it is not there.
    pub(super) fn list(&self, account: &Arc<Account>) {
        if !self.is_listed.load(SeqCst) && !self.is_listed.swap(true, SeqCst) {
            self.board.lock().push(Arc::clone(account));
        }
    }
}

/// One rate of an account that is to be told.
#[derive(Debug)]
pub(in crate::auth) struct Report {
    account: Arc<Account>,
    of_bytes: bool,
    /// What its node says.
    pub(in crate::auth) said: Use,
}

impl Report {
    /// The name under which all nodes know this rate.
    pub(in crate::auth) fn name(&self) -> String {
        let name = self.account.place_on_board().map_or("", |place| place.name.as_str());
        format!("{name}{}", if self.of_bytes { ":b" } else { ":r" })
    }

    /// It was told, and all nodes together are ahead by so many microseconds.
    pub(in crate::auth) fn agreed(&self, ahead: u64) {
        if let Some(cell) = self.cell() {
            cell.agreed(self.said, ahead);
        }
    }

    /// It could not be told. `forget`: it need not be any more.
    pub(in crate::auth) fn failed(&self, forget: bool) {
        let (Some(cell), Some(place)) = (self.cell(), self.account.place_on_board()) else {
            return;
        };
        if forget {
            cell.forget(self.said);
        } else {
            place.list(&self.account);
        }
    }

    fn cell(&self) -> Option<&Cell> {
        self.account.cell(self.of_bytes)
    }
}

impl Board {
    /// Takes at most so many accounts off the list, those first that were put there first, with what they have to say.
    pub(in crate::auth) fn take(&self, most: usize) -> Vec<Report> {
        let mut listed = self.lock();
        let taken: Vec<Arc<Account>> = match listed.len() <= most {
            true => std::mem::take(&mut *listed),
            false => listed.drain(..most).collect(),
        };
        drop(listed);
        let mut reports = Vec::with_capacity(taken.len());
        for account in taken {
            // Before its use is looked at: what comes after that lists it again.
            if let Some(place) = account.place_on_board() {
                place.is_listed.store(false, SeqCst);
            }
            for of_bytes in [false, true] {
                let Some(cell) = account.cell(of_bytes) else {
                    continue;
                };
                reports.push(Report { said: cell.own_use(), account: Arc::clone(&account), of_bytes });
            }
        }
        reports
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Account>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One, as a rate counts requests.
pub(super) const ONE: NonZeroU32 = NonZeroU32::MIN;
