//! A cursor over a request's JSON text.
//!
//! Owns the JSON grammar: white space, punctuation, strings, and stepping over values that nobody
//! asked for, without recursion and to a bounded depth. It builds no tree, knows no protocol and
//! leaves numbers to [`number`](super::number). Strings with escapes are decoded by `serde_json`.
//!
//! Why not `serde_json` for the whole text: its `Vec<f32>` takes 1.6 to 1.8 times as long as a
//! tensor of the same text here; its floats may be off by a unit in the last place (without
//! `float_roundtrip`); its errors do not name the field; and data that comes before its datatype
//! would have to be read twice.

use std::borrow::Cow;
use std::fmt;

use super::fault::{Fault, shorten};
use super::number::{self, Number};

/// How deep arrays and objects may nest in a value that is stepped over.
pub(super) const MAX_DEPTH: usize = 128;

/// One step from the top of the body to a field.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A key of an object.
    Key(Cow<'static, str>),
    /// An item of an array.
    Index(usize),
}

/// The text, where the cursor stands, and the path of the field it stands in.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    path: Vec<Step>,
}

impl<'a> Reader<'a> {
    /// Stands before the first byte of `text`.
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0, path: Vec::new() }
    }

    /// A second cursor at `at`, a byte position that [`Reader::position`] gave.
    pub(super) fn rewound(&self, at: usize) -> Self {
        Self { text: self.text, at, path: self.path.clone() }
    }

    /// The cursor's byte position.
    pub(super) const fn position(&self) -> usize {
        self.at
    }

    /// The whole text.
    pub(super) const fn text(&self) -> &'a str {
        self.text
    }

    /// Moves the cursor to a byte position within the text.
    pub(super) const fn seek(&mut self, at: usize) {
        self.at = at;
    }

    /// How many bytes are left.
    pub(super) const fn remaining(&self) -> usize {
        self.text.len().saturating_sub(self.at)
    }

    /// Steps into a field; a failure on the way leaves the path standing for [`Reader::path`].
    pub(super) fn enter(&mut self, step: Step) {
        self.path.push(step);
    }

    /// Steps out of the field entered last.
    pub(super) fn leave(&mut self) {
        self.path.pop();
    }

    /// The path of the current field, such as `inputs[0].shape[1]`.
    pub(super) fn path(&self) -> String {
        self.shown_path().to_string()
    }

    /// As [`Reader::path`], but written only where it is shown: most requests have no fault.
    pub(super) fn shown_path(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(|f| {
            for (index, step) in self.path.iter().enumerate() {
                match step {
                    Step::Key(key) if index == 0 => f.write_str(key)?,
                    Step::Key(key) => write!(f, ".{key}")?,
                    Step::Index(index) => write!(f, "[{index}]")?,
                }
            }
            Ok(())
        })
    }

    /// A failure at the cursor: what was expected, what stands there, line and column.
    #[cold]
    pub(super) fn expected(&self, what: &str) -> Fault {
        Fault::Here(format!("expected {what}, got {}{}", self.describe(), self.place(self.at)))
    }

    /// A failure about the text from byte `start` on.
    #[cold]
    pub(super) fn refused(&self, start: usize, message: impl std::fmt::Display) -> Fault {
        Fault::Here(format!("{message}{}", self.place(start)))
    }

    fn place(&self, at: usize) -> String {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |tail| tail.chars().count()) + 1;
        format!(" at line {line} column {column}")
    }

    fn describe(&self) -> String {
        match self.peek() {
            None => "the end of the JSON text".to_owned(),
            Some(b'"') => "a string".to_owned(),
            Some(b'[') => "an array".to_owned(),
            Some(b'{') => "an object".to_owned(),
            Some(b't' | b'f') => "a boolean".to_owned(),
            Some(b'n') => "null or NaN".to_owned(),
            Some(b'-' | b'0'..=b'9') => "a number".to_owned(),
            Some(_) => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                format!("'{}'", rest.chars().next().unwrap_or_default().escape_default())
            }
        }
    }

    /// The byte at the cursor.
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Moves past white space.
    #[inline]
    pub(super) fn skip_space(&mut self) {
        self.at = after_space(self.text.as_bytes(), self.at);
    }

    /// Moves past white space, then past `byte` if it stands there.
    #[inline]
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Moves past white space and `byte`, or says that `what` was expected.
    pub(super) fn take(&mut self, byte: u8, what: &str) -> Result<(), Fault> {
        if self.eat(byte) { Ok(()) } else { Err(self.expected(what)) }
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.text.as_bytes()[self.at.min(self.text.len())..].starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// Moves past `null` if it stands there.
    pub(super) fn eat_null(&mut self) -> bool {
        self.skip_space();
        self.take_word("null")
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self) -> Result<bool, Fault> {
        self.skip_space();
        if self.take_word("true") {
            return Ok(true);
        }
        if self.take_word("false") {
            return Ok(false);
        }
        Err(self.expected("true or false"))
    }

    /// A number; its range is for the caller to check.
    #[inline]
    pub(super) fn number(&mut self) -> Result<Number<'a>, Fault> {
        self.skip_space();
        match number::scan(self.text, self.at) {
            Some((number, end)) => {
                self.at = end;
                Ok(number)
            }
            None => Err(self.expected("a number")),
        }
    }

    /// A string, borrowed from the text unless it has escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.skip_space();
        let start = self.at;
        let escaped = self.skip_string()?;
        let text = self.text;
        if !escaped {
            return Ok(Cow::Borrowed(text.get(start + 1..self.at - 1).unwrap_or_default()));
        }
        serde_json::from_str(text.get(start..self.at).unwrap_or_default()).map(Cow::Owned).map_err(|error| {
            let message = error.to_string();
            let reason = message.split(" at line").next().unwrap_or_default();
            self.refused(
                start,
                format_args!(
                    "the string's escapes cannot be decoded ({reason}; surrogates must come in pairs)"
                ),
            )
        })
    }

    /// Moves past a string, and tells whether it has escapes, which are left unchecked.
    fn skip_string(&mut self) -> Result<bool, Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a string"));
        }
        let bytes = self.text.as_bytes();
        let (mut at, mut escaped) = (self.at + 1, false);
        loop {
            at += plain_length(bytes.get(at..).unwrap_or_default(), ends_plain_text);
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => (at, escaped) = (at + 2, true),
                Some(_) => return Err(self.refused(at, "a string has an unescaped control character")),
                None => return Err(self.refused(self.at, "a string is not closed that starts")),
            }
        }
        self.at = at + 1;
        Ok(escaped)
    }

    /// Runs `each` at the start of every item of an array. It must move past the item.
    pub(super) fn array(
        &mut self,
        mut each: impl FnMut(&mut Self, usize) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.take(b'[', "an array")?;
        if self.eat(b']') {
            return Ok(());
        }
        for index in 0.. {
            self.enter(Step::Index(index));
            each(self, index)?;
            self.leave();
            if !self.eat(b',') {
                break;
            }
        }
        self.take(b']', "',' or ']'")
    }

    /// Runs `each` with every key of an object, at the start of its value. It must move past it.
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.take(b'{', "an object")?;
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.take(b':', "':'")?;
            each(self, key)?;
            if !self.eat(b',') {
                break;
            }
        }
        self.take(b'}', "',' or '}'")
    }

    /// Moves past any one value. Its grammar is checked but for the escapes in its strings.
    pub(super) fn skip_value(&mut self) -> Result<(), Fault> {
        let mut open = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                Some(bracket @ (b'[' | b'{')) => {
                    if open.len() == MAX_DEPTH {
                        return Err(
                            self.refused(self.at, format_args!("nested deeper than {MAX_DEPTH} levels"))
                        );
                    }
                    self.at += 1;
                    if !self.eat(closing(bracket)) {
                        open.push(closing(bracket));
                        self.skip_key(bracket)?;
                        continue;
                    }
                }
                Some(b'"') => drop(self.skip_string()?),
                Some(b't' | b'f') => drop(self.boolean()?),
                Some(b'n') if self.eat_null() => {}
                Some(b'-' | b'0'..=b'9') => drop(self.number()?),
                _ => return Err(self.expected("a value")),
            }
            if !self.skip_to_next_value(&mut open)? {
                return Ok(());
            }
        }
    }

    /// After a value: closes what ends here, and tells whether another value follows.
    fn skip_to_next_value(&mut self, open: &mut Vec<u8>) -> Result<bool, Fault> {
        while let Some(&close) = open.last() {
            if self.eat(b',') {
                self.skip_key(if close == b'}' { b'{' } else { b'[' })?;
                return Ok(true);
            }
            self.take(close, if close == b'}' { "',' or '}'" } else { "',' or ']'" })?;
            open.pop();
        }
        Ok(false)
    }

    /// Moves to where an array ends that will be read later, and checked then: all that counts here
    /// is that brackets balance. Steps over any other value as [`Reader::skip_value`] does.
    pub(super) fn skip_unread(&mut self) -> Result<(), Fault> {
        self.skip_space();
        if self.peek() != Some(b'[') {
            return self.skip_value();
        }
        let (start, bytes) = (self.at, self.text.as_bytes());
        let mut depth = 0_usize;
        loop {
            self.at += plain_length(bytes.get(self.at..).unwrap_or_default(), is_structure);
            match self.peek() {
                Some(b'[' | b'{') => depth += 1,
                Some(b']' | b'}') => depth -= 1,
                Some(_) => {
                    self.skip_string()?;
                    continue;
                }
                None => return Err(self.refused(start, "an array is not closed that starts")),
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn skip_key(&mut self, bracket: u8) -> Result<(), Fault> {
        if bracket == b'{' {
            self.skip_space();
            self.skip_string()?;
            self.take(b':', "':'")?;
        }
        Ok(())
    }

    /// Checks that nothing but white space is left.
    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        self.skip_space();
        if self.peek().is_none() { Ok(()) } else { Err(self.expected("the end of the JSON text")) }
    }

    /// A short copy of the text from byte `start` to the cursor, for a message.
    pub(super) fn excerpt(&self, start: usize) -> String {
        shorten(self.text.get(start..self.at).unwrap_or_default())
    }
}

/// Where the white space ends that starts at byte `at`.
#[inline]
pub(super) fn after_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

const fn closing(bracket: u8) -> u8 {
    if bracket == b'[' { b']' } else { b'}' }
}

// Both tests are without branches, so that a block of bytes is one vector comparison.
const fn ends_plain_text(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

const fn is_structure(byte: u8) -> bool {
    // The bit 0x20 is all that tells '[' from '{' and ']' from '}'.
    (byte == b'"') | (byte | 0x20 == b'{') | (byte | 0x20 == b'}')
}

/// How many bytes come before the first `special` one.
#[inline]
fn plain_length(bytes: &[u8], special: impl Fn(u8) -> bool) -> usize {
    let (blocks, _) = bytes.as_chunks::<32>();
    let is_plain = |block: &[u8; 32]| block.map(|byte| u8::from(special(byte))) == [0; 32];
    let start = 32 * blocks.iter().take_while(|block| is_plain(block)).count();
    let rest = bytes.get(start..).unwrap_or_default();
    start + rest.iter().position(|&byte| special(byte)).unwrap_or(rest.len())
}
