//! What can be the value of a key: the forms, how each is read and how it is shown.
//!
//! A type that is written as one word implements [`Text`]; lists and optional values follow from
//! that. Quotes make no difference to a number or a duration: variables and flags have none.

use std::path::{Path, PathBuf};

use super::nearest::nearest;
use super::path::KeyPath;
use super::reader::Reader;
use super::tree::{Node, Place, Value};
use super::yaml_text;

/// The value of a key.
pub(super) trait Setting: Sized {
    /// True if the value must never be shown, neither in a report nor in a problem.
    const SECRET: bool = false;

    /// The form in words, with an example: "a duration like 500ms, 2s or 1m".
    fn expected() -> String;

    /// Reads the value, or notes what is wrong with it.
    fn read(node: &Node, at: &mut At<'_>) -> Option<Self>;

    /// The value as YAML on one line.
    fn show(&self) -> String;
}

/// A value that is written as one word.
pub(super) trait Text: Sized {
    /// As [`Setting::SECRET`].
    const SECRET: bool = false;

    /// As [`Setting::expected`].
    fn expected() -> String;

    /// Reads the word.
    fn parse(text: &str) -> Result<Self, Wrong>;

    /// As [`Setting::show`].
    fn show(&self) -> String;
}

/// Why a word is not a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It does not have the form.
    Form,
    /// It does not, and there is more to say.
    Because(String),
}

/// The key that is being read, to which problems belong.
pub(super) struct At<'r> {
    pub(super) reader: &'r mut Reader,
    pub(super) path: KeyPath,
}

impl At<'_> {
    /// Notes that the node has another form than expected.
    fn refuse<T: Setting>(&mut self, node: &Node, wrong: Wrong) {
        let got = if T::SECRET { "'***'".to_owned() } else { node.describe() };
        let mut message = format!("expected {}, got {got}", T::expected());
        if let Wrong::Because(reason) = wrong {
            message.push_str("; ");
            message.push_str(&reason);
        }
        self.reader.problem(&node.place, &self.path, message);
    }
}

impl<T: Text> Setting for T {
    const SECRET: bool = <T as Text>::SECRET;

    fn expected() -> String {
        <T as Text>::expected()
    }

    fn read(node: &Node, at: &mut At<'_>) -> Option<Self> {
        let parsed = match &node.value {
            Value::Scalar { text, .. } if !node.is_null() => T::parse(text),
            _ => Err(Wrong::Form),
        };
        parsed.map_err(|wrong| at.refuse::<T>(node, wrong)).ok()
    }

    fn show(&self) -> String {
        <T as Text>::show(self)
    }
}

/// May be left out or given as `null`.
impl<T: Setting> Setting for Option<T> {
    const SECRET: bool = T::SECRET;

    fn expected() -> String {
        T::expected()
    }

    fn read(node: &Node, at: &mut At<'_>) -> Option<Self> {
        if node.is_null() { Some(None) } else { T::read(node, at).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "null".to_owned(), T::show)
    }
}

/// A list in a file; words between commas in a variable or flag.
impl<T: Text> Setting for Vec<T> {
    const SECRET: bool = <T as Text>::SECRET;

    fn expected() -> String {
        format!("a list [a, b], each {}", <T as Text>::expected())
    }

    fn read(node: &Node, at: &mut At<'_>) -> Option<Self> {
        let split;
        let items = match (&node.value, &node.place) {
            (Value::Sequence(items), _) => items,
            (Value::Scalar { text, .. }, Place::Env(_) | Place::Flag(_)) => {
                split = split_words(text, &node.place);
                &split
            }
            _ => {
                at.refuse::<Self>(node, Wrong::Form);
                return None;
            }
        };
        let mut values = Some(Vec::new());
        for (index, item) in items.iter().enumerate() {
            let path = at.path.index(index);
            let value = <T as Setting>::read(item, &mut At { reader: at.reader, path });
            // Goes on after a wrong one, to name all of them.
            values = values.zip(value).map(|(mut values, value)| {
                values.push(value);
                values
            });
        }
        values
    }

    fn show(&self) -> String {
        yaml_text::list(self.iter().map(<T as Text>::show))
    }
}

/// The words of `a, b` or `[a, b]`.
fn split_words(text: &str, place: &Place) -> Vec<Node> {
    let inner = text.trim();
    let inner = inner.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(inner);
    if inner.trim().is_empty() {
        return Vec::new();
    }
    let word = |word: &str| Value::Scalar { text: word.trim().to_owned(), plain: false };
    inner.split(',').map(|part| Node { value: word(part), place: place.clone() }).collect()
}

/// A path of this machine. One in a file is relative to that file's folder; one in a variable or
/// a flag, as ever, to the working folder.
impl Setting for PathBuf {
    fn expected() -> String {
        "a path like ./models or /srv/models".to_owned()
    }

    fn read(node: &Node, at: &mut At<'_>) -> Option<Self> {
        match &node.value {
            Value::Scalar { text, .. } if !node.is_null() && !text.is_empty() && !text.contains('\0') => {
                let in_file = matches!(node.place, Place::File { .. });
                Some(if in_file { at.reader.base().join(text) } else { Self::from(text) })
            }
            _ => {
                at.refuse::<Self>(node, Wrong::Form);
                None
            }
        }
    }

    fn show(&self) -> String {
        yaml_text::word(&Path::display(self).to_string())
    }
}

impl Text for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        text.parse().map_err(|_| Wrong::Form)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A whole number in digits only: neither sign nor separators.
macro_rules! whole_number {
    ($($number:ty),+) => {$(
        impl Text for $number {
            fn expected() -> String {
                "a whole number like 16".to_owned()
            }

            fn parse(text: &str) -> Result<Self, Wrong> {
                if text.starts_with('+') {
                    return Err(Wrong::Form);
                }
                text.parse().map_err(|_| Wrong::Form)
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

whole_number!(u32, u64, usize);

/// One of a few words.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// The words and what they stand for.
    const WORDS: &'static [(&'static str, Self)];
    /// Words of the design that this version does not serve yet.
    const LATER: &'static [&'static str] = &[];
}

/// Reads one of the words.
pub(super) fn parse_choice<C: Choice>(text: &str) -> Result<C, Wrong> {
    if let Some((_, choice)) = C::WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(*choice);
    }
    if C::LATER.contains(&text) {
        return Err(Wrong::Because("this version does not serve it yet".to_owned()));
    }
    let near = nearest(text, C::WORDS.iter().map(|(word, _)| *word));
    Err(near.map_or(Wrong::Form, |near| Wrong::Because(format!("did you mean '{near}'?"))))
}

/// "one of a, b, c".
pub(super) fn expected_choice<C: Choice>() -> String {
    let words: Vec<_> = C::WORDS.iter().map(|(word, _)| *word).collect();
    format!("one of {}", words.join(", "))
}

/// The word of a choice.
pub(super) fn show_choice<C: Choice>(choice: C) -> &'static str {
    C::WORDS.iter().find(|(_, other)| *other == choice).map_or("", |(word, _)| word)
}
