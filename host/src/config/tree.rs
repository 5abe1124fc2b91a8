//! A YAML text as a tree in which every key and value knows its place.
//!
//! Owns the limits that keep hostile text harmless: depth, number of values and length of text,
//! counted after aliases are expanded. It reads the parser's events rather than a ready tree, so
//! that a limit stops the parser instead of judging what was already built. It knows no key.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::problem::{Problem, shorten};

/// The deepest nesting of maps and lists.
pub(super) const MAX_DEPTH: usize = 32;
/// The most values and keys, anchors and the copies made by aliases included.
pub(super) const MAX_NODES: usize = 20_000;
/// The most bytes of text in them, counted likewise.
pub(super) const MAX_TEXT: usize = 4 << 20;

/// How much of a text is kept, whatever it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    nodes: usize,
    text: usize,
}

impl Limits {
    /// Of a configuration.
    pub(super) const CONFIG: Self = Self { nodes: MAX_NODES, text: MAX_TEXT };
    /// Of a file of API keys.
    pub(super) const KEYS: Self = Self { nodes: 1_000_000, text: 16 << 20 };
}

/// The longest key, in bytes. YAML itself has a limit of this kind, in another unit.
const MAX_KEY: usize = 256;

/// Where a key or a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the file: line and column, both from 1.
    File {
        /// The line, from 1.
        line: usize,
        /// The column, from 1, in characters.
        column: usize,
    },
    /// In this environment variable.
    Env(String),
    /// In this flag.
    Flag(String),
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// What was written.
    pub(super) value: Value,
    /// Where it begins.
    pub(super) place: Place,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Anything that is neither list nor map, as text; `plain` if it was not quoted.
    Scalar {
        /// The text, quotes and escapes resolved.
        text: String,
        /// Written without quotes, so that `null` means nothing rather than a word.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A map, in the file's order, each key once.
    Mapping(Vec<Entry>),
}

/// One key of a map and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// Where the key was written.
    pub(super) place: Place,
    /// The value.
    pub(super) value: Node,
}

impl Node {
    /// An empty map at the top of a file: what an empty file holds.
    pub(super) fn empty() -> Self {
        Self { value: Value::Mapping(Vec::new()), place: Place::File { line: 1, column: 1 } }
    }

    /// True for a value that was left out, or written as `null` or `~`.
    pub(super) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar { text, plain: true } => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// The value in a few words, for a message.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            _ if self.is_null() => "nothing".to_owned(),
            Value::Scalar { text, .. } => format!("'{}'", shorten(text)),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a map".to_owned(),
        }
    }

    /// Number of keys and values, bytes of text, and levels.
    fn measure(&self) -> (usize, usize, usize) {
        match &self.value {
            Value::Scalar { text, .. } => (1, text.len(), 0),
            Value::Sequence(items) => items.iter().fold((1, 0, 1), |sum, item| add(sum, item.measure())),
            Value::Mapping(entries) => entries.iter().fold((1, 0, 1), |sum, entry| {
                let (nodes, bytes, depth) = entry.value.measure();
                add(sum, (nodes + 1, bytes + entry.key.len(), depth))
            }),
        }
    }
}

/// Adds a child's measure to that of the list or map it is in.
fn add(sum: (usize, usize, usize), child: (usize, usize, usize)) -> (usize, usize, usize) {
    (sum.0 + child.0, sum.1 + child.1, sum.2.max(child.2 + 1))
}

/// Reads a configuration. What is wrong with it is added to `problems` under the name `file`; `None` if
/// nothing after the first fault makes sense.
#[cfg(test)]
pub(super) fn parse(text: &str, file: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    parse_within(Limits::CONFIG, text, file, problems)
}

/// As [`parse`], within other limits.
pub(super) fn parse_within(
    limits: Limits,
    text: &str,
    file: &str,
    problems: &mut Vec<Problem>,
) -> Option<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::new(limits, file, problems);
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                builder.problem(place_of(error.marker()), format!("not valid YAML: {}", error.info()));
                return None;
            }
        };
        builder.event(event, place_of(&span.start)).ok()?;
    }
    Some(builder.root.unwrap_or_else(Node::empty))
}

fn place_of(marker: &Marker) -> Place {
    Place::File { line: marker.line().max(1), column: marker.col() + 1 }
}

/// The text goes over a limit; the problem was noted and reading ends.
struct Stop;

/// A list or map that is not closed yet.
struct Open {
    place: Place,
    anchor: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<Entry>, next: Next },
}

/// What the next node of a map is.
enum Next {
    Key,
    ValueOf(String, Place),
    /// The value of a key that was refused.
    Skipped,
}

struct Builder<'p> {
    limits: Limits,
    file: &'p str,
    problems: &'p mut Vec<Problem>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    documents: usize,
    nodes: usize,
    text: usize,
}

impl<'p> Builder<'p> {
    fn new(limits: Limits, file: &'p str, problems: &'p mut Vec<Problem>) -> Self {
        let (open, anchors) = (Vec::new(), HashMap::new());
        Self { limits, file, problems, open, anchors, root: None, documents: 0, nodes: 0, text: 0 }
    }

    fn problem(&mut self, place: Place, message: impl Into<String>) {
        let mut problem = Problem::whole(self.file, message);
        if let Place::File { line, column } = place {
            (problem.line, problem.column) = (line, column);
        }
        self.problems.push(problem);
    }

    fn event(&mut self, event: Event<'_>, place: Place) -> Result<(), Stop> {
        match event {
            Event::DocumentStart(_) => self.start_document(place),
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), &place);
                self.spend(1, text.len(), &place)?;
                let plain = style == ScalarStyle::Plain;
                let value = Value::Scalar { text: text.into_owned(), plain };
                self.complete(Node { value, place }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), &place);
                self.start(place, anchor, Content::Sequence(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), &place);
                self.start(place, anchor, Content::Mapping { entries: Vec::new(), next: Next::Key })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, place),
            Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => Ok(()),
        }
    }

    fn start_document(&mut self, place: Place) -> Result<(), Stop> {
        self.documents += 1;
        if self.documents > 1 {
            self.problem(place, "a second document begins here; keep one document in a file");
            return Err(Stop);
        }
        Ok(())
    }

    fn refuse_tag(&mut self, present: bool, place: &Place) {
        if present {
            self.problem(place.clone(), "a tag (!…) means nothing here; remove it");
        }
    }

    /// Counts what is kept.
    fn spend(&mut self, nodes: usize, text: usize, place: &Place) -> Result<(), Stop> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.text = self.text.saturating_add(text);
        let Limits { nodes: most, text: longest } = self.limits;
        if self.nodes > most || self.text > longest {
            let message = format!(
                "over the limit of {most} values and {longest} bytes of text, aliases expanded; \
                 make the file smaller"
            );
            self.problem(place.clone(), message);
            return Err(Stop);
        }
        Ok(())
    }

    fn check_depth(&mut self, more: usize, place: &Place) -> Result<(), Stop> {
        if self.open.len() + more > MAX_DEPTH {
            self.problem(place.clone(), format!("nested deeper than {MAX_DEPTH} levels; make it flatter"));
            return Err(Stop);
        }
        Ok(())
    }

    fn start(&mut self, place: Place, anchor: usize, content: Content) -> Result<(), Stop> {
        self.spend(1, 0, &place)?;
        self.check_depth(1, &place)?;
        self.open.push(Open { place, anchor, content });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Stop> {
        let Some(Open { place, anchor, content }) = self.open.pop() else { return Ok(()) };
        let value = match content {
            Content::Sequence(items) => Value::Sequence(items),
            Content::Mapping { entries, .. } => Value::Mapping(entries),
        };
        self.complete(Node { value, place }, anchor)
    }

    /// Puts a copy of what the anchor marks here. The copy keeps its places: what is wrong in it
    /// is wrong where it was written.
    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Stop> {
        let Some(node) = self.anchors.get(&anchor) else {
            self.problem(place, "an alias inside of what it stands for; write the value out");
            return Err(Stop);
        };
        let (nodes, text, depth) = node.measure();
        let node = node.clone();
        self.spend(nodes, text, &place)?;
        self.check_depth(depth, &place)?;
        self.complete(node, 0)
    }

    /// Puts a finished node into the list or map that is open.
    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        if anchor > 0 {
            let (nodes, text, _) = node.measure();
            self.spend(nodes, text, &node.place)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open { content: Content::Sequence(items), .. }) => items.push(node),
            Some(Open { content: Content::Mapping { entries, next }, .. }) => {
                let refused = match std::mem::replace(next, Next::Key) {
                    Next::Key => begin_entry(entries, next, node),
                    Next::Skipped => None,
                    Next::ValueOf(key, place) => {
                        entries.push(Entry { key, place, value: node });
                        None
                    }
                };
                if let Some((place, message)) = refused {
                    self.problem(place, message);
                }
            }
        }
        Ok(())
    }
}

/// Takes a node as the next key, or says why not.
fn begin_entry(entries: &[Entry], next: &mut Next, node: Node) -> Option<(Place, String)> {
    *next = Next::Skipped;
    let Value::Scalar { text: key, .. } = node.value else {
        return Some((node.place, "a list or a map cannot be a key; expected a word".to_owned()));
    };
    if key.len() > MAX_KEY {
        return Some((node.place, format!("a key of {} bytes; expected at most {MAX_KEY}", key.len())));
    }
    if let Some(Entry { place: Place::File { line, .. }, .. }) = entries.iter().find(|entry| entry.key == key)
    {
        let message = format!("duplicate key '{}', first given in line {line}; keep one", shorten(&key));
        return Some((node.place, message));
    }
    *next = Next::ValueOf(key, node.place);
    None
}
