//! One node's side of a model's record: what it knows, what the store has, and what is to be put there.
//!
//! Owns the compare-and-set: a record is put only in the place of exactly what was last read. It is pure: what
//! the store has is handed in, what is to be put is handed out. Invariants, held by tests with lost messages,
//! partitions, restarts and a store that loses everything: nodes that reach the store end up with one record; a
//! change that was acknowledged is in it, unless a later one has overridden it; revisions never go back.

use super::record::{Record, Unreadable};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Share {
    record: Record,
    /// What the store had when it was last looked at; `None` for nothing.
    stored: Option<String>,
    /// What that says; nothing if it cannot be read.
    heard: Record,
    /// A later host's record is in the store, which this one does not touch.
    is_newer: bool,
    /// Whether the store was ever looked at.
    has_looked: bool,
}

/// What is to stand in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Put {
    /// What must stand there now; empty for nothing.
    pub expected: String,
    /// What is to stand there.
    pub wanted: String,
    record: Record,
}

impl Share {
    /// A node that knows this, from its disk.
    pub fn knowing(record: Record) -> Self {
        Self { record, ..Self::default() }
    }

    /// What this node knows.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Changes what this node knows; it is to be put then.
    pub fn record_mut(&mut self) -> &mut Record {
        &mut self.record
    }

    /// Takes back a change that nobody has been told of: this was known before it, and what was heard since stays.
    pub fn take_back(&mut self, record: Record) {
        self.record = record;
        self.record.join(&self.heard);
    }

    /// What the text began with that the store had when it was last looked at: no other text does. Empty for
    /// nothing.
    pub fn stored_mark(&self) -> &str {
        self.stored.as_deref().map_or("", mark)
    }

    /// Takes in what the store has.
    ///
    /// # Errors
    /// If it cannot be read. Garbage is overwritten by the next put, a later host's record is left alone.
    pub fn hear(&mut self, stored: Option<String>) -> Result<(), Unreadable> {
        (self.has_looked, self.is_newer) = (true, false);
        let read = stored.as_deref().map_or(Ok(Record::default()), Record::decode);
        self.stored = stored;
        self.heard = Record::default();
        match read {
            Ok(heard) => {
                self.record.join(&heard);
                self.heard = heard;
                Ok(())
            }
            Err(unreadable) => {
                self.is_newer = matches!(unreadable, Unreadable::Newer(_));
                Err(unreadable)
            }
        }
    }

    /// The store was looked at, and has what it had.
    pub fn has_looked(&mut self) {
        self.has_looked = true;
    }

    /// Whether the store had all that this node knows when it was last looked at.
    pub fn is_shared(&self) -> bool {
        let is_nothing = self.stored.is_none() && self.record.is_empty();
        self.has_looked && (is_nothing || self.heard.says_as(&self.record))
    }

    /// What is to be put into the store: what this node knows, where the store has less, or an earlier revision.
    pub fn to_put(&self, node: &str) -> Option<Put> {
        let is_behind = self.heard.revision < self.record.revision && !self.record.is_empty();
        if !self.has_looked || self.is_newer || (self.is_shared() && !is_behind) {
            return None;
        }
        let revision = self.record.revision.max(self.heard.revision) + 1;
        let record = Record { revision, ..self.record.clone() };
        Some(Put { expected: self.stored.clone().unwrap_or_default(), wanted: record.encode(node), record })
    }

    /// The store has taken it.
    pub fn has_put(&mut self, put: Put) {
        self.record.join(&put.record);
        (self.stored, self.heard) = (Some(put.wanted), put.record);
    }
}

/// The first two words of a record's text.
fn mark(text: &str) -> &str {
    let second = text.find(' ').map_or(text.len(), |first| first + 1);
    let end = text.get(second..).and_then(|rest| rest.find(' ')).map_or(text.len(), |length| second + length);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
