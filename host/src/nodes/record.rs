//! What nodes agree on about one model's traffic, as it is kept and as two of them become one.
//!
//! Owns the record's form, and its join: the record has parts, each with a stamp, and of two values of a part
//! the one with the higher stamp stands. The join is commutative, associative and idempotent (held by tests), so
//! nodes that have seen the same changes have the same record, in whatever order and however often they saw
//! them. It reads no clock and talks to nobody.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The form that this host writes and reads.
const FORMAT: u32 = 1;
/// Bytes that a record may have.
pub(super) const LONGEST: usize = 1 << 20;
/// Moves that are kept, the latest.
const MOST_MOVES: usize = 8;
/// Days that a record stays after the last one on which a node had the model.
const OUTLIVED: u64 = 30;
/// Counts above this are nobody's: a change that nothing can override must not come out of a store.
const HIGHEST: u64 = 1 << 53;
/// Bytes that the names in a record may have.
const LONGEST_NAME: usize = 512;

/// When a part was changed, in an order that all nodes agree on: first by the number of changes before it, then
/// by the clock of the node that made it, then by that node's id.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// How many changes there were, this one included; 0 for a part that nobody has changed.
    pub count: u64,
    /// Milliseconds since 1970.
    pub at: u64,
    /// The node's id.
    pub node: String,
}

/// A value and when it was set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part<T> {
    /// When it was set.
    pub stamp: Stamp,
    /// What it was set to.
    pub value: T,
}

impl<T: Clone + Serialize> Part<T> {
    /// Takes the other value if that is the later one; returns whether it was.
    fn join(&mut self, other: &Self) -> bool {
        // No node gives one stamp twice; if one did, the others would still agree.
        let text = |part: &Self| serde_json::to_string(&part.value).unwrap_or_default();
        let is_later = match other.stamp.cmp(&self.stamp) {
            std::cmp::Ordering::Equal => text(other) > text(self),
            order => order.is_gt(),
        };
        if is_later {
            *self = other.clone();
        }
        is_later
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Rises with each change that the store has taken.
    pub revision: u64,
    /// The traffic that was set over `model.yaml`, as YAML or JSON; `None` for none.
    pub policy: Part<Option<String>>,
    /// What policies have come to by themselves or by command, by the place in which that counts (see
    /// [`crate::traffic::Moved`]); `None` where all nodes have left the place.
    pub moves: BTreeMap<String, Part<Option<Value>>>,
    /// The last day, counted from 1970, on which a node had the model; 0 if nobody has noted one.
    pub used: u64,
}

/// A record as it is written, behind its revision.
#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    policy: Part<Option<String>>,
    moves: BTreeMap<String, Part<Option<Value>>>,
    /// Earlier hosts do not write it.
    #[serde(default)]
    used: u64,
}

/// Why a stored text is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Nothing that a host has written.
    #[error("it is no record: {0}")]
    Garbage(String),
    /// A later host's, which must not be overwritten.
    #[error("it has format {0}, this host knows {FORMAT}; update this host")]
    Newer(u32),
}

impl Record {
    /// Takes in what another copy knows.
    pub fn join(&mut self, other: &Self) {
        self.revision = self.revision.max(other.revision);
        self.used = self.used.max(other.used);
        self.policy.join(&other.policy);
        for (place, part) in &other.moves {
            self.moves.entry(place.clone()).or_default().join(part);
        }
        self.prune();
    }

    /// Of too many moves the earliest go: nobody is in their places any more.
    fn prune(&mut self) {
        while self.moves.len() > MOST_MOVES {
            let key =
                |(place, part): &(&String, &Part<Option<Value>>)| (part.stamp.clone(), (*place).clone());
            let Some((_, earliest)) = self.moves.iter().map(|entry| key(&entry)).min() else {
                return;
            };
            self.moves.remove(&earliest);
        }
    }

    /// Sets the policy, later than whatever this record knows.
    pub fn set_policy(&mut self, policy: Option<String>, node: &str, now: u64) {
        let stamp =
            Stamp { count: self.policy.stamp.count.saturating_add(1), at: now, node: node.to_owned() };
        self.policy = Part { stamp, value: policy };
    }

    /// Sets what counts in a place, later than whatever this record knows of it.
    pub fn set_move(&mut self, place: &str, value: Option<Value>, node: &str, now: u64) {
        // A place that is new begins above all others: else it would be the first to go for want of room.
        let highest = || self.moves.values().map(|part| part.stamp.count).max().unwrap_or_default();
        let before = self.moves.get(place).map_or_else(highest, |part| part.stamp.count);
        let stamp = Stamp { count: before.saturating_add(1), at: now, node: node.to_owned() };
        self.moves.insert(place.to_owned(), Part { stamp, value });
        self.prune();
    }

    /// Whether all parts are the same, whatever the revisions.
    pub fn says_as(&self, other: &Self) -> bool {
        self.policy == other.policy && self.moves == other.moves && self.used == other.used
    }

    /// Notes that a node has the model on this day.
    pub fn use_on(&mut self, day: u64) {
        self.used = self.used.max(day);
    }

    /// Whether no node has had the model for so long that nobody will ask for what was decided about it.
    pub fn is_outlived(&self, today: u64) -> bool {
        self.used > 0 && self.used.saturating_add(OUTLIVED) < today
    }

    /// Whether nobody has ever changed anything.
    pub fn is_empty(&self) -> bool {
        self.policy.stamp.count == 0 && self.moves.is_empty()
    }

    /// The record as a text of this node: its revision, the node's id, and JSON, with spaces between. No two texts
    /// begin with the same revision and node.
    pub fn encode(&self, node: &str) -> String {
        let (policy, moves) = (self.policy.clone(), self.moves.clone());
        let written = Written { format: FORMAT, policy, moves, used: self.used };
        let json = serde_json::to_string(&written).unwrap_or_default();
        format!("{} {node} {json}", self.revision)
    }

    /// A record out of what stands in a store.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let text = std::str::from_utf8(bytes);
        Self::decode(text.map_err(|_| Unreadable::Garbage("it is not UTF-8".to_owned()))?)
    }

    /// A record out of a text from outside.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn decode(text: &str) -> Result<Self, Unreadable> {
        let garbage = |reason: &str| Unreadable::Garbage(reason.to_owned());
        if text.len() > LONGEST {
            return Err(garbage("it is longer than 1 MiB"));
        }
        let mut words = text.splitn(3, ' ');
        let revision = words.next().unwrap_or_default();
        let json = words.nth(1).ok_or_else(|| garbage("it has no revision"))?;
        let revision: u64 = revision.parse().map_err(|_| garbage("its revision is no number"))?;
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        let reason = |error: serde_json::Error| Unreadable::Garbage(error.to_string());
        let form: Form = serde_json::from_str(json).map_err(reason)?;
        if form.format > FORMAT {
            return Err(Unreadable::Newer(form.format));
        }
        let written: Written = serde_json::from_str(json).map_err(reason)?;
        let stamps = written.moves.values().map(|part| &part.stamp).chain([&written.policy.stamp]);
        let is_sound = |stamp: &Stamp| stamp.count <= HIGHEST && stamp.node.len() <= LONGEST_NAME;
        if revision.max(written.used) > HIGHEST || !stamps.into_iter().all(is_sound) {
            return Err(garbage("its numbers are out of range"));
        }
        if written.moves.len() > MOST_MOVES
            || written.moves.keys().any(|place| place.len() > 8 * LONGEST_NAME)
        {
            return Err(garbage("it has too many moves"));
        }
        Ok(Self { revision, policy: written.policy, moves: written.moves, used: written.used })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn stamp() -> impl Strategy<Value = Stamp> {
        (0..4_u64, 0..3_u64, 0..3_u8).prop_map(|(count, at, node)| Stamp {
            count,
            at,
            node: node.to_string(),
        })
    }

    fn record() -> impl Strategy<Value = Record> {
        let policy = (stamp(), prop::option::of("[a-c]"));
        let moves = prop::collection::btree_map("[a-l]", (stamp(), prop::option::of(0..3_u8)), 0..8);
        (0..9_u64, 0..3_u64, policy, moves).prop_map(|(revision, used, (stamp, value), moves)| Record {
            revision,
            used,
            policy: Part { stamp, value },
            moves: moves
                .into_iter()
                .map(|(place, (stamp, value))| {
                    (place, Part { stamp, value: value.map(|value| json!(value)) })
                })
                .collect(),
        })
    }

    fn joined(left: &Record, right: &Record) -> Record {
        let mut both = left.clone();
        both.join(right);
        both
    }

    proptest! {
        #[test]
        fn the_order_in_which_nodes_learn_does_not_matter(a in record(), b in record(), c in record()) {
            prop_assert_eq!(joined(&a, &b), joined(&b, &a));
            prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
            prop_assert_eq!(joined(&joined(&a, &b), &b), joined(&a, &b));
        }

        #[test]
        fn what_is_written_is_read(record in record()) {
            prop_assert_eq!(Record::decode(&record.encode("n")).unwrap(), record);
        }

        #[test]
        fn what_comes_out_of_a_store_is_read_or_refused(text in any::<String>(), record in record(), cut in any::<prop::sample::Index>()) {
            let _ = Record::decode(&text);
            let whole = record.encode("n");
            let cut = cut.index(whole.len());
            prop_assert!(Record::decode(&whole[..cut]).is_err());
        }
    }

    #[test]
    fn a_later_hosts_record_and_a_hostile_one_are_told_apart() {
        let newer = r#"3 n {"format": 2, "policy": 7}"#;
        assert_eq!(Record::decode(newer), Err(Unreadable::Newer(2)));
        let mut record = Record::default();
        record.set_policy(Some("x".to_owned()), "a", 1);
        let text = record.encode("n").replace("\"count\":1", "\"count\":18446744073709551615");
        assert!(matches!(Record::decode(&text), Err(Unreadable::Garbage(_))), "nothing could override it");
        record.set_policy(Some("x".repeat(1 << 20)), "a", 1);
        assert!(matches!(Record::decode(&record.encode("n")), Err(Unreadable::Garbage(_))));
    }

    #[test]
    fn a_record_is_outlived_when_no_node_has_had_its_model_for_a_month() {
        let mut record = Record::default();
        record.set_policy(Some("x".to_owned()), "a", 1);
        assert!(!record.is_outlived(20_000), "nobody knows since when");
        record.use_on(20_000);
        assert!(!record.is_outlived(20_030) && record.is_outlived(20_031));
        record.use_on(19_000);
        assert!(!record.is_outlived(20_030), "a clock that is behind takes nothing away");
        let earlier = record.encode("a").replace(",\"used\":20000", "");
        assert_eq!(Record::decode(&earlier).unwrap().used, 0, "as earlier hosts have written it");
    }
}
