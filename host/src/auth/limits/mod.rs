//! How much callers and models may be asked for.
//!
//! Owns rates (governor's generic cell rate algorithm), places for requests at a time, and the bound on how many callers
//! are known. A caller's account is forgotten only when it is as a new one would be, so that forgetting gives nobody
//! anything. Rates may be those of several nodes together: then accounts that are asked for come on a board, off which
//! `auth/shared/usage.rs` takes them. Nothing waits: what is over a limit is refused at once, with the time after which it would not be.

mod account;
mod board;
mod cell;
mod table;

#[cfg(test)]
mod sharing;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use self::account::{Account, Place, Plan};
pub(super) use self::board::{Board, Report};
use self::table::Table;
use super::identity::{Identity, Kind, account_of};
use crate::config::{LimitEntry, LimitSettings};
use crate::error::{Error, ErrorCode};

/// How a caller stands with a rate, for the headers of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Requests that may come at once.
    pub burst: u32,
    /// The time in which as many become free again.
    pub window: Duration,
    /// Requests that may still come at once.
    pub left: u32,
    /// Until all of them may again.
    pub reset: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Limits {
    identity: Plan,
    anonymous: Plan,
    model: Plan,
    identities: Vec<(String, Plan)>,
    models: Vec<(String, Plan)>,
    /// Accounts of those who have shown who they are, and apart from them those of addresses: however many of these
    /// there are, none of the former goes short.
    callers: Table,
    strangers: Table,
    asked: Table,
    /// With other nodes, if rates are those of all of them.
    board: Option<Arc<Board>>,
}

impl Limits {
    /// Limits as they are configured. `max_body`: the largest body, which must be able to come at all.
    pub fn new(settings: &LimitSettings, max_body: usize) -> Self {
        let plan = |entry: &LimitEntry| Plan::new(entry, max_body);
        let named = |entries: &[(String, LimitEntry)]| {
            entries.iter().map(|(name, entry)| (name.clone(), plan(entry))).collect()
        };
        let board = settings.redis.then(Arc::<Board>::default);
        Self {
            identity: plan(&settings.identity),
            anonymous: plan(&settings.anonymous),
            model: plan(&settings.model),
            identities: named(&settings.identities),
            models: named(&settings.models),
            callers: Table::new(settings.tracked, board.clone().map(|board| (board, "caller"))),
            strangers: Table::new(settings.tracked, board.clone().map(|board| (board, "caller"))),
            asked: Table::new(settings.tracked, board.clone().map(|board| (board, "model"))),
            board,
        }
    }

    /// What is to be told to other nodes; `None` if this one counts for itself.
    pub(super) fn board(&self) -> Option<&Arc<Board>> {
        self.board.as_ref()
    }

    /// The account of a caller.
    pub(super) fn owner(&self, identity: &Identity, address: IpAddr) -> Owner {
        if identity.kind == Kind::Anonymous {
            return self.stranger(address);
        }
        let plan = self.plan_of(identity);
        Owner((!plan.is_unlimited()).then(|| self.callers.account(&identity.account, plan)))
    }

    /// The limits of a caller: those of its kind and name, else those of its name, else those of all.
    fn plan_of(&self, identity: &Identity) -> &Plan {
        let by_name = || {
            // A name that reads like another kind's is nobody's.
            let is_of_a_kind = Kind::ALL.iter().any(|kind| {
                identity.subject.strip_prefix(kind.as_str()).is_some_and(|rest| rest.starts_with(':'))
            });
            named(&self.identities, &identity.subject).filter(|_| !is_of_a_kind)
        };
        named(&self.identities, &identity.account).or_else(by_name).unwrap_or(&self.identity)
    }

    /// The account of somebody of whom nothing but the address is known.
    pub(super) fn stranger(&self, address: IpAddr) -> Owner {
        let plan = &self.anonymous;
        Owner((!plan.is_unlimited()).then(|| self.strangers.account(&account_of(address), plan)))
    }

    /// Begins an inference request.
    pub(super) fn admit(&self, owner: &Owner, model: &str) -> Result<Admitted, Error> {
        let plan = named(&self.models, model).unwrap_or(&self.model);
        let asked = (!plan.is_unlimited()).then(|| self.asked.account(model, plan));
        let place = |account: &Option<Arc<Account>>, of: &str| match account {
            None => Ok(None),
            Some(account) => {
                let none = || exhausted(&format!("too many requests at a time for {of}"), SOON);
                account.place().map(Some).ok_or_else(none)
            }
        };
        // Places first: what finds none must not use up the rate.
        let own = place(&owner.0, "this caller")?;
        let of_model = place(&asked, "this model")?;
        if let Some(account) = &asked {
            account.request().map_err(|(wait, _)| exhausted("too many requests for this model", wait))?;
        }
        Ok(Admitted { owner: owner.clone(), asked, _places: [own, of_model] })
    }
}

fn named<'a>(entries: &'a [(String, Plan)], name: &str) -> Option<&'a Plan> {
    entries.iter().find(|(own, _)| own == name).map(|(_, plan)| plan)
}

/// When to try again where nobody can say.
const SOON: Duration = Duration::from_secs(1);

fn exhausted(what: &str, wait: Duration) -> Error {
    Error::new(ErrorCode::ResourceExhausted, format!("{what}; try again later (limits)")).retry_after(wait)
}

/// A caller's account; none if nothing of it is limited.
#[derive(Clone, Debug)]
pub(super) struct Owner(Option<Arc<Account>>);

impl Owner {
    /// Counts a request.
    pub(super) fn request(&self) -> Result<Option<Standing>, (Error, Standing)> {
        let Some(account) = &self.0 else {
            return Ok(None);
        };
        account.request().map_err(|(wait, standing)| (exhausted("too many requests", wait), standing))
    }
}

/// An inference request that has begun. It holds its places until it is dropped, whatever way it ends.
#[derive(Debug)]
pub struct Admitted {
    owner: Owner,
    asked: Option<Arc<Account>>,
    _places: [Option<Place>; 2],
}

impl Admitted {
    /// Counts bytes of the request's body.
    ///
    /// # Errors
    /// `ResourceExhausted`.
    pub fn charge(&self, bytes: usize) -> Result<(), Error> {
        let charge = |account: &Option<Arc<Account>>, of: &str| {
            account.as_ref().map_or(Ok(()), |account| account.bytes(bytes)).map_err(|wait| match wait {
                Some(wait) => exhausted(&format!("too many bytes from {of}"), wait),
                None => Error::new(
                    ErrorCode::PayloadTooLarge,
                    format!("the body is larger than {of} may ever send at once (limits, burst_bytes)"),
                ),
            })
        };
        charge(&self.owner.0, "this caller")?;
        charge(&self.asked, "all callers of this model")
    }
}
