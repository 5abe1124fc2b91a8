//! What is wrong with a configuration: all of it, each with its place.

use std::fmt;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, the environment variable or the flag that it is in.
    pub file: String,
    /// The line in the file, from 1; 0 if it is about the whole file, a variable or a flag.
    pub line: usize,
    /// The column in the line, from 1, in characters; 0 where `line` is.
    pub column: usize,
    /// The full path of the key, such as `server.http`; empty if it is about the file as a whole.
    pub key: String,
    /// What was expected, what came, and the remedy.
    pub message: String,
}

impl Problem {
    /// A problem of a whole file, variable or flag.
    pub(super) fn whole(file: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0, key: String::new(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.escape_debug())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", shorten(&self.key))?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Everything that is wrong, at least one; printed one a line, ready to be shown to an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// `Ok` if nothing is wrong.
    pub(super) fn check(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The longest part of a foreign text that a message repeats, in characters.
const SHOWN_CHARACTERS: usize = 80;

/// A foreign text as a message may repeat it: on one line, without control characters, cut short.
pub(super) fn shorten(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARACTERS).flat_map(char::escape_debug).collect();
    // `escape_debug` also escapes quotes, which are harmless here and worse to read.
    shown = shown.replace("\\'", "'").replace("\\\"", "\"");
    if text.chars().nth(SHOWN_CHARACTERS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_place_key_and_message() {
        let mut problem = Problem::whole("config.yaml", "cannot be read");
        assert_eq!(problem.to_string(), "config.yaml: cannot be read");
        (problem.line, problem.column, problem.key) = (3, 5, "server.http".into());
        assert_eq!(problem.to_string(), "config.yaml:3:5: server.http: cannot be read");
    }

    #[test]
    fn foreign_text_is_cut_and_escaped() {
        assert_eq!(shorten("a\x1b[31m\n'b'"), "a\\u{1b}[31m\\n'b'");
        assert_eq!(shorten(&"x".repeat(500)).chars().count(), SHOWN_CHARACTERS + 1);
    }
}
