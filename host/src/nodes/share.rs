//! One node's side of a model's record: what it knows, what the store has, and what is to be put there.
//!
//! Owns the compare-and-set: a record is put only in the place of exactly what was last read. It is pure: what
//! the store has is handed in, what is to be put is handed out. Invariants, held by tests with lost messages,
//! partitions, restarts and a store that loses everything: nodes that reach the store end up with one record; a
//! change that was acknowledged is in it, unless a later one has overridden it; revisions never go back.

use super::record::{LONGEST, Record, Unreadable};

/// Bytes that a mark has at most.
const LONGEST_MARK: usize = 64;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Share {
    record: Record,
    /// What the store had when it was last looked at; `None` for nothing.
    stored: Option<Vec<u8>>,
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
    pub expected: Vec<u8>,
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
    pub fn stored_mark(&self) -> &[u8] {
        self.stored.as_deref().map_or(&[], mark)
    }

    /// Takes in what the store has.
    ///
    /// # Errors
    /// If it cannot be read. Garbage is overwritten by the next put, a later host's record is left alone.
    pub fn hear(&mut self, stored: Option<impl Into<Vec<u8>>>) -> Result<(), Unreadable> {
        (self.has_looked, self.is_newer) = (true, false);
        // Kept as it is, whatever it is: else nothing could be put in its place.
        self.stored = stored.map(Into::into);
        let read = self.stored.as_deref().map_or(Ok(Record::default()), Record::read);
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
        let wanted = record.encode(node);
        // What nobody would read, others would write over, for ever.
        let is_readable = wanted.len() <= LONGEST;
        is_readable.then(|| Put { expected: self.stored.clone().unwrap_or_default(), wanted, record })
    }

    /// What must stand in the store for this record to be taken out of it; `None` where something else stands there
    /// than a record that says the same. Empty for nothing.
    pub fn to_remove(&self) -> Option<&[u8]> {
        let is_same = self.stored.is_none() || self.heard.says_as(&self.record);
        (self.has_looked && !self.is_newer && is_same).then(|| self.stored.as_deref().unwrap_or_default())
    }

    /// The store has taken it.
    pub fn has_put(&mut self, put: Put) {
        self.record.join(&put.record);
        (self.stored, self.heard) = (Some(put.wanted.into_bytes()), put.record);
    }
}

/// What a text begins with: the revision and the node of a record's, anything of what is none. As in the script that
/// looks for other ones.
pub(super) fn mark(text: &[u8]) -> &[u8] {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let node = text.get(digits + 1..).unwrap_or_default().iter().take_while(|byte| **byte != b' ').count();
    let is_records = digits > 0 && text.get(digits) == Some(&b' ') && node > 0;
    let end = if is_records { digits + 1 + node } else { text.len() };
    text.get(..end.min(LONGEST_MARK)).unwrap_or_default()
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
