//! A map whose keys are asked for by name.
//!
//! Asking is the schema: a key is known because somebody asked for it, its default and form are
//! given in the same breath, and [`Section::finish`] refuses the rest. Nothing here stops at the
//! first problem: a wrong value is noted and the default stands in until the end.

use std::ops::RangeInclusive;

use super::path::KeyPath;
use super::reader::Reader;
use super::setting::{At, Setting};
use super::tree::{Entry, Node, Place, Value};

/// One map of the file, or the absence of one.
pub(super) struct Section<'r> {
    reader: &'r mut Reader,
    path: KeyPath,
    place: Place,
    entries: Vec<Entry>,
    known: Vec<&'static str>,
}

impl<'r> Section<'r> {
    /// Opens a map. A missing or empty one has no keys; anything else is a problem.
    pub(super) fn open(reader: &'r mut Reader, path: KeyPath, node: Option<Node>) -> Self {
        let node = node.unwrap_or_else(Node::empty);
        let place = node.place.clone();
        let entries = match node.value {
            Value::Mapping(entries) => entries,
            _ if node.is_null() => Vec::new(),
            _ => {
                reader.problem(&place, &path, format!("expected a map of keys, got {}", node.describe()));
                Vec::new()
            }
        };
        Self { reader, path, place, entries, known: Vec::new() }
    }

    /// The value of a key, or the default.
    pub(super) fn take<T: Setting>(&mut self, key: &'static str, default: T) -> T {
        self.take_if(key, default, |_| Ok(()))
    }

    /// The value of a key within a range, or the default.
    pub(super) fn take_in<T: Setting + PartialOrd>(
        &mut self,
        key: &'static str,
        default: T,
        range: RangeInclusive<T>,
    ) -> T {
        self.take_if(key, default, |value| {
            if range.contains(value) {
                return Ok(());
            }
            Err(format!("expected {} to {}, got {}", range.start().show(), range.end().show(), value.show()))
        })
    }

    /// The value of a key that passes a check, or the default. The check gives the message.
    pub(super) fn take_if<T: Setting>(
        &mut self,
        key: &'static str,
        default: T,
        check: impl FnOnce(&T) -> Result<(), String>,
    ) -> T {
        let node = self.claim(key);
        let given = node.as_ref().and_then(|node| self.read(key, node, check));
        let value = given.unwrap_or(default);
        self.record(key, &value, node.as_ref());
        value
    }

    /// The value of a key that has no default. `None` notes the problem.
    pub(super) fn require<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        self.require_if(key, |_| Ok(()))
    }

    /// The value of a key that has no default and passes a check. `None` notes the problem.
    pub(super) fn require_if<T: Setting>(
        &mut self,
        key: &'static str,
        check: impl FnOnce(&T) -> Result<(), String>,
    ) -> Option<T> {
        let Some(node) = self.claim(key) else {
            let message = format!("missing; expected {}", T::expected());
            self.reader.problem(&self.place, &self.path.key(key), message);
            return None;
        };
        let value = self.read(key, &node, check)?;
        self.record(key, &value, Some(&node));
        Some(value)
    }

    /// Reads a map below this one.
    pub(super) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let node = self.claim(key);
        let mut section = Section::open(self.reader, self.path.key(key), node);
        let value = read(&mut section);
        section.finish();
        value
    }

    /// Reads a list of maps, each by `read`, which also gets its index.
    pub(super) fn sections<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'_>) -> T,
    ) -> Vec<T> {
        let path = self.path.key(key);
        let node = self.claim(key);
        let place = node.as_ref().map(|node| node.place.clone());
        let items = match node {
            Some(Node { value: Value::Sequence(items), .. }) => items,
            Some(node) if !node.is_null() => {
                let message = format!("expected a list of maps, got {}", node.describe());
                self.reader.problem(&node.place, &path, message);
                Vec::new()
            }
            _ => Vec::new(),
        };
        if items.is_empty() {
            self.reader.record(path.clone(), "[]".to_owned(), place.as_ref());
        }
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let mut section = Section::open(self.reader, path.index(index), Some(item));
            values.push(read(&mut section));
            section.finish();
        }
        values
    }

    /// Reads a map from names to values; `check` judges both.
    pub(super) fn named_values<T: Setting>(
        &mut self,
        key: &'static str,
        count: RangeInclusive<usize>,
        check: impl Fn(&str, &T) -> Result<(), String>,
    ) -> Vec<(String, T)> {
        let path = self.path.key(key);
        let mut values = Vec::new();
        for Entry { key: name, place, value: node } in self.named_entries(key, count) {
            let path = path.key(&name);
            let Some(value) = T::read(&node, &mut At { reader: self.reader, path: path.clone() }) else {
                continue;
            };
            match check(&name, &value) {
                Ok(()) => self.reader.record(path, value.show(), Some(&node.place)),
                Err(message) => self.reader.problem(&place, &path, message),
            }
            values.push((name, value));
        }
        values
    }

    /// Reads a map from names to maps, each by `read`; `check` judges the name.
    pub(super) fn named_sections<T>(
        &mut self,
        key: &'static str,
        count: RangeInclusive<usize>,
        check: impl Fn(&str) -> Result<(), String>,
        mut read: impl FnMut(&mut Section<'_>) -> T,
    ) -> Vec<(String, T)> {
        let path = self.path.key(key);
        let mut values = Vec::new();
        for Entry { key: name, place, value: node } in self.named_entries(key, count) {
            let path = path.key(&name);
            if let Err(message) = check(&name) {
                self.reader.problem(&place, &path, message);
            }
            let mut section = Section::open(self.reader, path, Some(node));
            values.push((name, read(&mut section)));
            section.finish();
        }
        values
    }

    /// The entries of a map with names for keys, of which there have to be so many.
    fn named_entries(&mut self, key: &'static str, count: RangeInclusive<usize>) -> Vec<Entry> {
        let path = self.path.key(key);
        let node = self.claim(key);
        let place = node.as_ref().map_or_else(|| self.place.clone(), |node| node.place.clone());
        let given = node.is_some();
        let entries = match node {
            Some(Node { value: Value::Mapping(entries), .. }) => entries,
            Some(node) if !node.is_null() => {
                self.reader.problem(
                    &place,
                    &path,
                    format!("expected a map of names, got {}", node.describe()),
                );
                return Vec::new();
            }
            _ => Vec::new(),
        };
        if !count.contains(&entries.len()) {
            let message =
                format!("expected {} to {} names, got {}", count.start(), count.end(), entries.len());
            self.reader.problem(&place, &path, message);
            return Vec::new();
        }
        if entries.is_empty() {
            self.reader.record(path, "{}".to_owned(), given.then_some(&place));
        }
        entries
    }

    /// The raw value of a key that is read by hand.
    pub(super) fn claim(&mut self, key: &'static str) -> Option<Node> {
        self.known.push(key);
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(index).value)
    }

    /// The raw value of a key that is yet to be asked for.
    pub(super) fn peek(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value.value)
    }

    /// Whether a key that is yet to be asked for has a value other than nothing.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key && !entry.value.is_null())
    }

    /// Notes a problem with a key of this map.
    pub(super) fn problem(&mut self, key: &str, place: &Place, message: impl Into<String>) {
        self.reader.problem(place, &self.path.key(key), message);
    }

    /// Notes a value in effect that was read by hand, as YAML.
    pub(super) fn record_raw(&mut self, path: KeyPath, value: String, place: Option<&Place>) {
        self.reader.record(path, value, place);
    }

    /// Where this map begins.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The path of this map.
    pub(super) fn path(&self) -> &KeyPath {
        &self.path
    }

    /// Refuses every key that was not asked for.
    pub(super) fn finish(self) {
        for entry in self.entries {
            self.reader.unknown(&self.path, entry, &self.known);
        }
    }

    fn read<T: Setting>(
        &mut self,
        key: &str,
        node: &Node,
        check: impl FnOnce(&T) -> Result<(), String>,
    ) -> Option<T> {
        let path = self.path.key(key);
        let value = T::read(node, &mut At { reader: self.reader, path: path.clone() })?;
        if let Err(message) = check(&value) {
            let message = if T::SECRET { "the secret is out of range".to_owned() } else { message };
            self.reader.problem(&node.place, &path, message);
            return None;
        }
        Some(value)
    }

    fn record<T: Setting>(&mut self, key: &str, value: &T, node: Option<&Node>) {
        let shown = value.show();
        // That there is none is no secret.
        let shown = if T::SECRET && shown != "null" { "\"***\"".to_owned() } else { shown };
        self.reader.record(self.path.key(key), shown, node.map(|node| &node.place));
    }
}
