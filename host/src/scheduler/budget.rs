//! The processor cores, shared between the models of a host.
//!
//! Owns how many runs there are at a time. The first run of a model never waits for another model: so none
//! can starve, and a long run cannot hold up a short one; between those the system shares the cores. All
//! further runs of models share what cores there are beside the first, and go to whichever model has had
//! the least time.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// More than any model has workers.
const GPU_RUNS: usize = 1 << 20;

/// See the module. One for each host, and one for each model on a GPU.
#[derive(Debug)]
pub struct Budget {
    state: Mutex<State>,
    granted: Condvar,
    at_a_time: usize,
}

#[derive(Debug, Default)]
struct State {
    free: usize,
    accounts: Vec<Account>,
    waiting: Vec<Asking>,
    /// The time had of the last one that was let run: who was idle does not save up.
    clock: Duration,
    next: u64,
}

#[derive(Debug)]
struct Account {
    id: u64,
    running: usize,
    /// Time of all its runs.
    had: Duration,
}

#[derive(Debug)]
struct Asking {
    id: u64,
    account: u64,
    /// It may run.
    granted: bool,
}

impl Budget {
    /// A budget of so many runs at a time, for one model alone: cores divided by the threads of a run.
    pub fn new(at_a_time: usize) -> Arc<Self> {
        let at_a_time = at_a_time.max(1);
        let state = State { free: at_a_time - 1, ..State::default() };
        Arc::new(Self { state: Mutex::new(state), granted: Condvar::new(), at_a_time })
    }

    /// A budget of the cores that this process may use, by its affinity and its cgroup's quota, for runs of so
    /// many threads each.
    pub fn of_this_machine(threads: usize) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self::new(cores / threads.max(1))
    }

    /// A budget for a model that runs on a GPU. It waits for no core: what its runs need of one is little beside
    /// what the device does meanwhile, and a device that waits for a core is lost. How many runs it has at a
    /// time is the number of its workers, and which of them computes the device decides.
    pub fn of_a_gpu() -> Arc<Self> {
        Self::new(GPU_RUNS)
    }

    /// Runs that one model can have at a time.
    pub fn at_a_time(&self) -> usize {
        self.at_a_time
    }

    /// Opens the account of a model.
    pub(super) fn member(self: &Arc<Self>) -> Member {
        let mut state = self.state();
        state.next += 1;
        let (id, had) = (state.next, state.clock);
        state.accounts.push(Account { id, running: 0, had });
        Member { budget: Arc::clone(self), account: id }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn account(&mut self, id: u64) -> Option<&mut Account> {
        self.accounts.iter_mut().find(|account| account.id == id)
    }

    /// A run of a model has ended. Whichever it was, one of those that are left is now the model's first, which
    /// takes no shared core.
    fn end(&mut self, id: u64, took: Duration) {
        let Some(account) = self.account(id) else {
            return;
        };
        account.running -= 1;
        account.had += took;
        let gives_back = account.running > 0;
        self.free += usize::from(gives_back);
    }

    /// Lets those run that may; true if there is one to wake.
    fn grant(&mut self) -> bool {
        let mut any = false;
        while let Some((at, shared)) = self.next_to_run() {
            let Some(asking) = self.waiting.get_mut(at) else {
                break;
            };
            asking.granted = true;
            let id = asking.account;
            self.free -= usize::from(shared);
            if let Some(account) = self.accounts.iter_mut().find(|account| account.id == id) {
                account.running += 1;
                self.clock = self.clock.max(account.had);
            }
            any = true;
        }
        any
    }

    /// Who is next, and whether it takes a shared core: one whose model runs nothing, or if there is a free
    /// core, the one of the model that has had the least, the first of those.
    fn next_to_run(&self) -> Option<(usize, bool)> {
        let open = self.waiting.iter().enumerate().filter(|(_, asking)| !asking.granted);
        let accounts = open.filter_map(|(at, asking)| {
            Some((at, self.accounts.iter().find(|account| account.id == asking.account)?))
        });
        let least = accounts.min_by_key(|(at, account)| (account.running > 0, account.had, *at));
        let (at, account) = least?;
        let shared = account.running > 0;
        (!shared || self.free > 0).then_some((at, shared))
    }
}

/// A model's account.
#[derive(Debug)]
pub(super) struct Member {
    budget: Arc<Budget>,
    account: u64,
}

impl Member {
    /// Waits until a run of this model may begin. It lasts until the permit is dropped.
    pub(super) fn enter(&self) -> Permit<'_> {
        let mut state = self.budget.state();
        state.next += 1;
        let (id, account, clock) = (state.next, self.account, state.clock);
        if let Some(account) = state.account(account)
            && account.running == 0
        {
            account.had = account.had.max(clock);
        }
        state.waiting.push(Asking { id, account, granted: false });
        // Waking costs a call of the system even if nobody waits, and mostly this one alone has asked.
        if state.grant() && state.waiting.len() > 1 {
            self.budget.granted.notify_all();
        }
        loop {
            let at = state.waiting.iter().position(|asking| asking.id == id);
            if let Some(at) = at.filter(|&at| state.waiting.get(at).is_some_and(|asking| asking.granted)) {
                state.waiting.remove(at);
                return Permit { member: self, began: Instant::now() };
            }
            state = self.budget.granted.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn leave(&self, took: Duration) {
        let mut state = self.budget.state();
        state.end(self.account, took);
        if state.grant() {
            self.budget.granted.notify_all();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let account = self.account;
        self.budget.state().accounts.retain(|other| other.id != account);
    }
}

/// The right to run.
#[derive(Debug)]
pub(super) struct Permit<'m> {
    member: &'m Member,
    began: Instant,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.member.leave(self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state(free: usize, accounts: &[(u64, usize, u64)], waiting: &[u64]) -> State {
        let account =
            |&(id, running, had): &(u64, usize, u64)| Account { id, running, had: Duration::from_secs(had) };
        let asking = |(id, &account): (u64, &u64)| Asking { id, account, granted: false };
        State {
            free,
            accounts: accounts.iter().map(account).collect(),
            waiting: (0..).zip(waiting).map(asking).collect(),
            ..State::default()
        }
    }

    #[test]
    fn the_first_run_of_a_model_never_waits() {
        let mut full = state(0, &[(1, 4, 0), (2, 0, 100)], &[1, 2, 2]);
        assert!(full.grant());
        let granted: Vec<_> = full.waiting.iter().map(|asking| asking.granted).collect();
        assert_eq!(granted, [false, true, false]);
    }

    #[test]
    fn a_gpu_waits_for_no_core() {
        let budget = Budget::of_a_gpu();
        let member = budget.member();
        let permits: Vec<_> = (0..100).map(|_| member.enter()).collect();
        assert_eq!(permits.len(), 100);
    }

    // A model with as many workers as there are cores keeps all of them busy, whichever run ends first.
    #[test]
    fn the_first_run_that_ends_leaves_a_core_to_the_next() {
        let budget = Budget::new(2);
        let member = budget.member();
        let (first, second) = (member.enter(), member.enter());
        assert_eq!(budget.state().free, 0);
        drop(first);
        assert_eq!(budget.state().free, 1);
        let third = member.enter();
        drop((second, third));
        assert_eq!(budget.state().free, 1);
    }

    #[test]
    fn a_shared_core_goes_to_whom_has_had_the_least() {
        let mut both = state(1, &[(1, 1, 9), (2, 1, 3)], &[1, 2, 2]);
        assert!(both.grant());
        let granted: Vec<_> = both.waiting.iter().map(|asking| asking.granted).collect();
        assert_eq!(granted, [false, true, false]);
    }

    #[test]
    fn who_was_idle_does_not_save_up() {
        let budget = Budget::new(2);
        let (busy, idle) = (budget.member(), budget.member());
        budget.state().account(busy.account).unwrap().had = Duration::from_secs(100);
        drop(busy.enter());
        drop(idle.enter());
        assert!(budget.state().account(idle.account).unwrap().had >= Duration::from_secs(100));
        drop(idle);
        assert_eq!(budget.state().accounts.len(), 1);
    }

    proptest! {
        // Two models that always want to run, with runs of these lengths: their times stay together.
        #[test]
        fn two_greedy_models_share_evenly(lengths in prop::collection::vec(1_u64..20, 200), free in 1_usize..4) {
            let mut state = state(free, &[(1, 1, 0), (2, 1, 0)], &[]);
            for (turn, &length) in lengths.iter().enumerate() {
                for account in [1, 2] {
                    let id = turn as u64 * 2 + account;
                    state.waiting.push(Asking { id, account, granted: false });
                }
                state.grant();
                let at = state.waiting.iter().position(|asking| asking.granted).unwrap();
                let account = state.waiting.remove(at).account;
                state.end(account, Duration::from_secs(length));
            }
            let had: Vec<_> = state.accounts.iter().map(|account| account.had.as_secs()).collect();
            // Each grant in flight may be one run of up to 20 ahead.
            prop_assert!(had[0].abs_diff(had[1]) <= 20 * (free as u64 + 1), "{:?}", had);
        }
    }

    #[test]
    fn no_more_run_at_a_time_than_the_first_of_each_and_the_shared_ones() {
        use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
        let budget = Budget::new(3);
        let members: Vec<_> = (0..2).map(|_| budget.member()).collect();
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for member in members.iter().cycle().take(12) {
                let (running, most) = (&running, &most);
                scope.spawn(move || {
                    for _ in 0..200 {
                        let permit = member.enter();
                        most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                        std::thread::yield_now();
                        running.fetch_sub(1, SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert!((1..=4).contains(&most.load(SeqCst)), "{most:?}");
        assert_eq!(budget.state().free, 2);
    }
}
