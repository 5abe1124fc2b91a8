//! What becomes of a model whose version was given up while it served: its workers died again and again.
//!
//! Owns the way back: the version fails with its reason, and the last good one whose folder is still there is
//! wanted again, whatever `versions` says, until the one that failed has other content, is gone, or serves after
//! all. If there is none, the version itself is tried again after a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::keeper::Keeper;
use super::scan::{Key, Scan};
use super::version;

/// After this time a version is tried again that nothing stands in for.
const PAUSE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rollbacks {
    /// The versions of each model that have served, the latest last.
    served: BTreeMap<String, Vec<String>>,
    /// Versions that have a folder and that nobody asks for.
    spare: BTreeSet<Key>,
    /// Models that are not served by the version that they should be.
    under_way: BTreeMap<String, Rollback>,
}

#[derive(Debug, Default)]
struct Rollback {
    /// The version that was given up first.
    from: String,
    /// All that were given up since.
    given_up: BTreeSet<String>,
}

impl Rollbacks {
    /// A version serves.
    pub(super) fn served(&mut self, (model, version): &Key) {
        let served = self.served.entry(model.clone()).or_default();
        served.retain(|other| other != version);
        served.push(version.clone());
    }

    /// What a scan saw.
    pub(super) fn observe(&mut self, scan: &Scan) {
        self.spare.clone_from(&scan.superseded);
        let is_there = |key: &Key| scan.superseded.contains(key) || scan.wanted.contains_key(key);
        for (model, versions) in &mut self.served {
            versions.retain(|version| is_there(&(model.clone(), version.clone())));
        }
        self.served.retain(|_, versions| !versions.is_empty());
    }

    /// A version was given up; returns the one that is to serve in its place, if any can.
    fn give_up(&mut self, (model, version): &Key) -> Option<String> {
        let rollback = self.under_way.entry(model.clone()).or_default();
        if rollback.given_up.is_empty() {
            rollback.from.clone_from(version);
        }
        rollback.given_up.insert(version.clone());
        let spare = self.spare.iter().filter(|(name, _)| name == model).map(|(_, version)| version);
        let spare: Vec<&String> = spare.filter(|spare| !rollback.given_up.contains(*spare)).collect();
        let served = self.served.get(model).into_iter().flatten().rev();
        let last_good = served.into_iter().find(|served| spare.contains(served));
        let earlier = spare.iter().filter(|spare| version::compare(spare, version).is_lt());
        let latest = || earlier.copied().max_by(|left, right| version::compare(left, right));
        last_good.or_else(latest).cloned()
    }
}

impl Keeper {
    /// Looks for generations that were given up, and has others take their place.
    pub(super) fn roll_back(&mut self) {
        let given_up = self.generations.iter().filter_map(|(key, generation)| {
            let reason = generation.scheduler().given_up()?;
            Some((key.clone(), format!("{reason}; publish a mended version, or load it again")))
        });
        for (key, reason) in given_up.collect::<Vec<_>>() {
            let (model, version) = (key.0.as_str(), key.1.as_str());
            let stand_in = self.rollbacks.give_up(&key);
            let others =
                self.generations.iter().filter(|((name, other), _)| name == model && other != version);
            let others_serve = others.into_iter().any(|(_, other)| other.scheduler().given_up().is_none());
            let stand_in = stand_in.filter(|_| !others_serve);
            let alone = stand_in.is_none() && !others_serve;
            tracing::error!(model, version, %reason, stand_in, "the version was given up while it served");
            self.loader.metrics.swapped(model, "given_up");
            self.options.decisions.set_stand_in(model, stand_in.clone());
            self.reconciler.set_stand_in(model, stand_in.as_deref());
            let works = self.reconciler.give_up(&key, reason, Instant::now(), alone.then_some(PAUSE));
            self.start(works);
            if stand_in.is_some() {
                // The stand-in is found by a look at the folders.
                self.due.notify_one();
            }
        }
        self.settle_traffic();
        self.show_changes();
        self.settle_traffic();
    }

    /// Ends rollbacks of versions that have changed, are gone, or serve.
    pub(super) fn end_rollbacks(&mut self) {
        let reconciler = &self.reconciler;
        let is_over = |(model, rollback): &(&String, &Rollback)| {
            !reconciler.is_failed(&((*model).clone(), rollback.from.clone()))
        };
        let over = self.rollbacks.under_way.iter().filter(is_over).map(|(model, _)| model.clone());
        for model in over.collect::<Vec<_>>() {
            self.rollbacks.under_way.remove(&model);
            self.options.decisions.set_stand_in(&model, None);
            self.reconciler.set_stand_in(&model, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(version: &str) -> Key {
        ("m".to_owned(), version.to_owned())
    }

    fn rollbacks(served: &[&str], spare: &[&str]) -> Rollbacks {
        let mut rollbacks = Rollbacks::default();
        served.iter().for_each(|version| rollbacks.served(&key(version)));
        rollbacks.spare = spare.iter().map(|version| key(version)).collect();
        rollbacks
    }

    #[test]
    fn the_last_good_version_stands_in_and_none_twice() {
        let mut all = rollbacks(&["1", "3", "2", "4"], &["1", "2", "3"]);
        assert_eq!(all.give_up(&key("4")).as_deref(), Some("2"));
        assert_eq!(all.give_up(&key("2")).as_deref(), Some("3"));
        all.spare.insert(key("2"));
        assert_eq!(all.give_up(&key("3")).as_deref(), Some("1"));
        assert_eq!(all.give_up(&key("1")), None);
        assert_eq!(all.under_way["m"].from, "4");
    }

    #[test]
    fn without_a_past_the_latest_earlier_version_stands_in() {
        assert_eq!(rollbacks(&["10"], &["2", "9", "11"]).give_up(&key("10")).as_deref(), Some("9"));
        assert_eq!(rollbacks(&["10"], &["11"]).give_up(&key("10")), None);
        assert_eq!(rollbacks(&["10", "11"], &["11"]).give_up(&key("10")).as_deref(), Some("11"));
    }
}
