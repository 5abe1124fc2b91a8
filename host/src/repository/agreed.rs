//! One model's record and its traffic on this node, kept equal.
//!
//! Owns which part of the record this node's traffic has taken over, and what of the traffic is not in the record
//! yet. It talks to nobody: the store's texts are handed in, and what is to be put there is read off the record.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::nodes::{Record, Share, Stamp};
use crate::traffic::{Event, Moved, Traffic};

/// What came of a look at the record.
#[derive(Debug, Default)]
pub(super) struct Synced {
    /// The traffic is not as it was.
    pub(super) has_changed: bool,
    /// What took place in it then.
    pub(super) events: Vec<Event>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Agreed {
    pub(super) share: Share,
    /// The place that the traffic was in at the last look.
    place: Option<String>,
    /// The stamp of the part that the traffic has taken over, of that place.
    applied: Option<Stamp>,
    /// What the traffic had come to then; anything else is new here.
    known: Option<Moved>,
    /// The policy that was carried out here, or was found in effect.
    policy: Option<Stamp>,
}

impl Agreed {
    /// What this node knows from its disk. `set` is the traffic that it has over `model.yaml`: where that is not
    /// the record's, it was set while nobody else could be told, or before there was anybody.
    pub(super) fn from_disk(text: Option<&str>, set: Option<String>, node: &str, now: u64) -> Self {
        let read = text.map(Record::decode).and_then(Result::ok);
        let is_older = read.is_none();
        let mut record = read.unwrap_or_default();
        if record.policy.value != set {
            // Of a node that comes with a decision which nobody dated, that of all others comes first.
            record.set_policy(set, node, if is_older { 0 } else { now });
        }
        let policy = Some(record.policy.stamp.clone());
        Self { share: Share::knowing(record), policy, ..Self::default() }
    }

    /// The policy that the record has and this node has not carried out, if there is one.
    pub(super) fn new_policy(&mut self) -> Option<Option<String>> {
        let policy = &self.share.record().policy;
        if policy.stamp.count == 0 || self.policy.as_ref() == Some(&policy.stamp) {
            return None;
        }
        self.policy = Some(policy.stamp.clone());
        Some(policy.value.clone())
    }

    /// Notes a policy that an operator has set here, and that is in effect.
    pub(super) fn set_policy(&mut self, text: Option<String>, node: &str, now: u64) {
        let record = self.share.record_mut();
        record.set_policy(text, node, now);
        self.policy = Some(record.policy.stamp.clone());
    }

    /// Has the traffic take over what the record says, and the record what the traffic has come to by itself.
    pub(super) fn sync(&mut self, traffic: &Traffic, node: &str, now: SystemTime) -> Synced {
        let place = traffic.place();
        if place != self.place {
            self.enter(place, node, millis(now));
        }
        let Some(place) = self.place.clone() else {
            return Synced::default();
        };
        let synced = self.apply(&place, traffic, now);
        self.note(&place, traffic, node, millis(now));
        synced
    }

    /// The traffic has another policy than at the last look: what it had come to in the place before counts no more
    /// when it comes back.
    fn enter(&mut self, place: Option<String>, node: &str, now: u64) {
        (self.applied, self.known) = (None, None);
        let Some(before) = std::mem::replace(&mut self.place, place) else {
            return;
        };
        let record = self.share.record_mut();
        if record.moves.get(&before).is_some_and(|part| part.value.is_some()) {
            record.set_move(&before, None, node, now);
        }
    }

    fn apply(&mut self, place: &str, traffic: &Traffic, now: SystemTime) -> Synced {
        let part = self.share.record().moves.get(place);
        let Some(part) = part.filter(|part| self.applied.as_ref() != Some(&part.stamp)) else {
            return Synced::default();
        };
        let Some(value) = &part.value else {
            return Synced::default();
        };
        let read: Result<Moved, _> = serde_json::from_value(value.clone());
        self.applied = Some(part.stamp.clone());
        let moved = match read {
            Ok(moved) => moved,
            Err(error) => {
                tracing::warn!(place, %error, "what another node's traffic has come to cannot be read");
                return Synced::default();
            }
        };
        let has_changed = traffic.moved().is_none_or(|(_, own)| own != moved);
        let events = traffic.adopt(place, &moved, now);
        self.known = Some(moved);
        Synced { has_changed, events }
    }

    fn note(&mut self, place: &str, traffic: &Traffic, node: &str, now: u64) {
        let Some((_, moved)) = traffic.moved().filter(|(at, _)| at == place) else {
            return;
        };
        if self.known.as_ref() == Some(&moved) {
            return;
        }
        let Ok(value) = serde_json::to_value(&moved) else {
            return;
        };
        let record = self.share.record_mut();
        // What a node begins with is a guess: whatever else is known of this place comes first.
        let at = if record.moves.contains_key(place) { now } else { 0 };
        record.set_move(place, Some(value), node, at);
        self.applied = record.moves.get(place).map(|part| part.stamp.clone());
        self.known = Some(moved);
    }

    /// Takes back a change that nobody has been told of: the traffic is to take over the record anew.
    pub(super) fn take_back(&mut self, record: Record) {
        self.share.take_back(record);
        self.applied = None;
    }

    /// What the record says, by place.
    pub(super) fn moves(&self) -> BTreeMap<String, Moved> {
        let moves = self.share.record().moves.iter();
        let read = |value: &serde_json::Value| serde_json::from_value(value.clone()).ok();
        moves.filter_map(|(place, part)| Some((place.clone(), part.value.as_ref().and_then(read)?))).collect()
    }
}

/// Milliseconds since 1970.
pub(super) fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "agreed_tests.rs"]
mod tests;
