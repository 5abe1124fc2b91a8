//! The record of every value in effect and where it came from: what `--print-config` prints.

use std::fmt;

use super::path::{KeyPath, PathPart};
use super::problem::shorten;
use super::yaml_text;

/// Where a value in effect came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody gave one.
    Default,
    /// A file.
    File {
        /// The file, as it was named.
        path: String,
        /// The line of the value, from 1.
        line: usize,
    },
    /// An environment variable.
    Env {
        /// Its name.
        name: String,
    },
    /// A command-line flag.
    Flag {
        /// The flag with its dashes.
        name: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", shorten(path)),
            Self::Env { name } | Self::Flag { name } => f.write_str(&shorten(name)),
        }
    }
}

/// One value in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportLine {
    /// Its key.
    pub path: KeyPath,
    /// The value as YAML on one line; `***` for a secret.
    pub value: String,
    /// Where it came from.
    pub source: Source,
}

/// All values in effect, in the order of the manual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(Vec<ReportLine>);

/// Comments begin in this column where the value leaves room.
const COMMENT_COLUMN: usize = 48;

impl Report {
    /// Each value in effect.
    pub fn iter(&self) -> std::slice::Iter<'_, ReportLine> {
        self.0.iter()
    }

    /// Where the value of a key came from; `None` for a key that does not exist.
    pub fn source(&self, path: &str) -> Option<&Source> {
        self.0.iter().find(|line| line.path.to_string() == path).map(|line| &line.source)
    }

    /// The values as a YAML file that gives the same configuration (but for secrets), with the
    /// source of each in a comment. Relative paths in it are relative to the working folder.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        let mut before: &[PathPart] = &[];
        for line in &self.0 {
            let parts = line.path.parts();
            let shared = parts.iter().zip(before).take_while(|(a, b)| a == b).count();
            let start = open_parents(&mut text, parts, shared);
            text.push_str(": ");
            text.push_str(&line.value);
            let width = text[start..].chars().count();
            text.push_str(&" ".repeat(COMMENT_COLUMN.saturating_sub(width).max(2)));
            text.push_str(&format!("# {}\n", line.source));
            before = parts;
        }
        text
    }

    pub(super) fn push(&mut self, line: ReportLine) {
        self.0.push(line);
    }
}

/// Writes the keys above a value that the line before it does not share, and its own, without the
/// colon. Returns where the last line begins.
fn open_parents(text: &mut String, parts: &[PathPart], shared: usize) -> usize {
    let mut line_start = text.len();
    let mut at_line_start = true;
    for (depth, part) in parts.iter().enumerate().skip(shared) {
        if at_line_start {
            line_start = text.len();
            text.push_str(&"  ".repeat(depth));
        }
        match part {
            PathPart::Index(_) => {
                text.push_str("- ");
                at_line_start = false;
            }
            PathPart::Key(key) => {
                text.push_str(&yaml_text::word(key));
                at_line_start = depth + 1 < parts.len();
                if at_line_start {
                    text.push_str(":\n");
                }
            }
        }
    }
    line_start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_nested_keys_with_their_sources() {
        let mut report = Report::default();
        let models = KeyPath::default().key("models");
        let mut add = |path: KeyPath, value: &str, source| {
            report.push(ReportLine { path, value: value.into(), source });
        };
        let file = |line| Source::File { path: "config.yaml".into(), line };
        add(KeyPath::default().key("server").key("http"), "127.0.0.1:8080", Source::Default);
        add(KeyPath::default().key("server").key("idle"), "1m", Source::Env { name: "NUKE_X".into() });
        add(models.index(0).key("name"), "a", file(3));
        add(models.index(0).key("path"), "b", file(4));
        add(models.index(1).key("name"), "c", file(5));
        let pad = |text: &str, source: &str| format!("{text:<48}# {source}\n");
        let expected = [
            "server:\n".to_owned(),
            pad("  http: 127.0.0.1:8080", "default"),
            pad("  idle: 1m", "NUKE_X"),
            "models:\n".to_owned(),
            pad("  - name: a", "config.yaml:3"),
            pad("    path: b", "config.yaml:4"),
            pad("  - name: c", "config.yaml:5"),
        ];
        assert_eq!(report.to_yaml(), expected.concat());
        assert_eq!(report.source("models[1].name"), Some(&file(5)));
        assert_eq!(report.source("models[2].name"), None);
    }
}
