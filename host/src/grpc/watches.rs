//! How many watch the server's health at a time.
//!
//! Owns the bound, over all and for each address: anybody may watch, for ever, and each that does costs a little.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, ErrorCode};
use crate::http::network;

/// All together.
const MOST: usize = 1024;
/// Of one address: what stands in front of many clients asks for all of them.
const MOST_OF_ONE: usize = 64;

/// The watches of one listener. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Watches(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Watches {
    /// Begins a watch, which ends when what comes back is dropped.
    ///
    /// # Errors
    /// `ResourceExhausted`.
    pub(super) fn begin(&self, address: IpAddr) -> Result<Watch, Error> {
        let address = network(address);
        let mut taken = self.taken();
        let own = taken.by_address.get(&address).copied().unwrap_or(0);
        if taken.all >= MOST || own >= MOST_OF_ONE {
            let message = "too many watch the server's health already; ask with Check, or close another";
            return Err(Error::new(ErrorCode::ResourceExhausted, message));
        }
        taken.all += 1;
        taken.by_address.insert(address, own + 1);
        Ok(Watch { watches: self.clone(), address })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One watch.
#[derive(Debug)]
pub(super) struct Watch {
    watches: Watches,
    address: IpAddr,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut taken = self.watches.taken();
        taken.all -= 1;
        if let Some(own) = taken.by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_of_one_address_and_of_all() {
        let watches = Watches::default();
        let at = |number: usize| format!("2001:db8:0:{number:x}::{number:x}").parse::<IpAddr>().unwrap();
        let mut held: Vec<_> = (0..MOST_OF_ONE).map(|_| watches.begin(at(0)).unwrap()).collect();
        assert_eq!(watches.begin(at(0)).unwrap_err().code, ErrorCode::ResourceExhausted);
        held.extend((MOST_OF_ONE..MOST).map(|number| watches.begin(at(number)).unwrap()));
        assert!(watches.begin(at(MOST)).is_err());
        drop(held.pop());
        assert!(watches.begin(at(0)).is_err() && watches.begin(at(MOST)).is_ok());
        held.clear();
        let taken = watches.taken();
        assert!(taken.all == 0 && taken.by_address.is_empty());
    }
}
