//! Room for what is to be loaded, under `repository.memory`.
//!
//! Owns the rule which versions make room: those that were loaded on demand and that nobody uses, the one that was
//! used longest ago first. It is pure; the keeper knows what there is.

use std::time::Instant;

use super::scan::Key;
use crate::config::ByteSize;

/// One that is in memory.
#[derive(Clone, Debug)]
pub(super) struct Resident {
    pub(super) key: Key,
    pub(super) memory: u64,
    /// It can be brought back, and so be put to rest.
    pub(super) is_lazy: bool,
    pub(super) in_use: bool,
    pub(super) last_used: Instant,
}

/// What there is to be counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Stock {
    pub(super) residents: Vec<Resident>,
    /// Of generations that were let go and are not freed yet.
    pub(super) leaving: u64,
    /// Of loads that go on.
    pub(super) coming: u64,
}

/// Whether there is room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is.
    Now,
    /// There will be, once these are put to rest and what is on its way out has gone, or others are done.
    Later { rest: Vec<Key>, reason: String },
    /// There is none to be had.
    Never(String),
}

impl Stock {
    /// Bytes in use, by estimate.
    pub(super) fn used(&self) -> u64 {
        let residents = self.residents.iter().map(|resident| resident.memory);
        residents.chain([self.leaving, self.coming]).fold(0, u64::saturating_add)
    }

    /// Those that may be put to rest, the one first that was used longest ago.
    fn idle(&self) -> Vec<&Resident> {
        let mut idle: Vec<_> =
            self.residents.iter().filter(|resident| resident.is_lazy && !resident.in_use).collect();
        idle.sort_by_key(|resident| resident.last_used);
        idle
    }

    /// Which ones to put to rest so that no more than `budget` bytes are in use, `need` of them new.
    fn making_room(&self, need: u64, budget: u64) -> (Vec<Key>, bool) {
        let mut left = self.used().saturating_sub(self.leaving).saturating_add(need);
        let mut rest = Vec::new();
        for resident in self.idle() {
            if left <= budget {
                break;
            }
            left = left.saturating_sub(resident.memory);
            rest.push(resident.key.clone());
        }
        (rest, left <= budget)
    }

    /// Which ones to put to rest because more is in use than may be: workers have come, or the budget was left
    /// to what had to be loaded.
    pub(super) fn excess(&self, budget: u64) -> Vec<Key> {
        self.making_room(0, budget).0
    }

    /// Whether `need` bytes may be used beside what is.
    pub(super) fn room_for(&self, need: u64, budget: u64) -> Verdict {
        if self.used().saturating_add(need) <= budget {
            return Verdict::Now;
        }
        let staying = self.residents.iter().filter(|resident| !resident.is_lazy);
        let staying = staying.map(|resident| resident.memory).fold(0, u64::saturating_add);
        let (need_text, budget_text) = (text(need), text(budget));
        if staying.saturating_add(need) > budget {
            return Verdict::Never(format!(
                "it needs about {need_text}, and of repository.memory, which is {budget_text}, {} are taken by \
                 versions that are not unloaded on their own (load: eager); raise the budget, or make some of them \
                 lazy",
                text(staying)
            ));
        }
        let (rest, _) = self.making_room(need, budget);
        let reason = format!(
            "it needs about {need_text}, and {} of repository.memory, which is {budget_text}, are in use",
            text(self.used())
        );
        Verdict::Later { rest, reason }
    }
}

/// A number of bytes for people.
fn text(bytes: u64) -> String {
    if bytes < 1 << 20 {
        return ByteSize::bytes(bytes).to_string();
    }
    format!("{:.1}MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn resident(number: usize, memory: u64, is_lazy: bool, in_use: bool, age: u64) -> Resident {
        let last_used = Instant::now() + Duration::from_secs(1_000_000 - age);
        Resident { key: (format!("m{number}"), "1".to_owned()), memory, is_lazy, in_use, last_used }
    }

    #[test]
    fn the_one_used_longest_ago_makes_room() {
        let stock = Stock {
            residents: vec![
                resident(0, 10, true, false, 5),
                resident(1, 10, true, false, 9),
                resident(2, 10, true, true, 99),
                resident(3, 10, false, false, 99),
            ],
            ..Stock::default()
        };
        assert_eq!(stock.room_for(10, 50), Verdict::Now);
        let rest_of = |need, budget| match stock.room_for(need, budget) {
            Verdict::Later { rest, .. } => rest.into_iter().map(|key| key.0).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(rest_of(10, 40), ["m1"]);
        assert_eq!(rest_of(20, 40), ["m1", "m0"]);
        // The one in use may be idle soon.
        assert_eq!(rest_of(30, 40), ["m1", "m0"]);
        let Verdict::Never(reason) = stock.room_for(31, 40) else { panic!() };
        assert!(reason.contains("repository.memory, which is 40"), "{reason}");
        // What is on its way out is room soon.
        let leaving = Stock { leaving: 10, ..Stock::default() };
        assert!(matches!(leaving.room_for(10, 15), Verdict::Later { rest, .. } if rest.is_empty()));
    }

    proptest! {
        #[test]
        fn only_idle_lazy_ones_make_room_and_no_more_than_it_takes(
            all in prop::collection::vec((0..50_u64, any::<bool>(), any::<bool>(), 0..9_u64), 0..12),
            (leaving, coming, need, budget) in (0..60_u64, 0..60_u64, 0..100_u64, 0..300_u64),
        ) {
            let residents: Vec<_> = all
                .iter()
                .enumerate()
                .map(|(number, &(memory, is_lazy, in_use, age))| resident(number, memory, is_lazy, in_use, age))
                .collect();
            let stock = Stock { residents, leaving, coming };
            let find = |key: &Key| stock.residents.iter().find(|resident| resident.key == *key).unwrap();
            match stock.room_for(need, budget) {
                Verdict::Now => prop_assert!(stock.used() + need <= budget),
                Verdict::Later { rest, .. } => {
                    prop_assert!(stock.used() + need > budget);
                    let rested: Vec<_> = rest.iter().map(find).collect();
                    prop_assert!(rested.iter().all(|one| one.is_lazy && !one.in_use));
                    let freed: u64 = rested.iter().map(|one| one.memory).sum();
                    let last = rested.last().map_or(0, |one| one.memory);
                    let stays = stock.used() - stock.leaving + need;
                    prop_assert!(rested.is_empty() || stays - (freed - last) > budget, "one too many");
                    // Who stays though idle was used no earlier.
                    for other in stock.residents.iter().filter(|one| one.is_lazy && !one.in_use) {
                        let stays = !rest.contains(&other.key);
                        prop_assert!(!stays || rested.iter().all(|one| one.last_used <= other.last_used));
                    }
                }
                Verdict::Never(_) => {
                    let eager: u64 =
                        stock.residents.iter().filter(|one| !one.is_lazy).map(|one| one.memory).sum();
                    prop_assert!(eager + need > budget);
                }
            }
        }
    }
}
