//! The path of a key: `models[0].name`.

use std::fmt;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPart {
    /// A key of a map.
    Key(String),
    /// An element of a list, from 0.
    Index(usize),
}

/// Where a value is in its file, from the top.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyPath(Vec<PathPart>);

impl KeyPath {
    /// The steps, from the top.
    pub fn parts(&self) -> &[PathPart] {
        &self.0
    }

    /// The path with every index left out: `models[].name`, the name of the key in the manual.
    pub fn pattern(&self) -> String {
        render(&self.0, |_| String::new())
    }

    /// The path of a key below this one.
    pub(super) fn key(&self, key: &str) -> Self {
        self.with(PathPart::Key(key.to_owned()))
    }

    /// The path of an element below this one.
    pub(super) fn index(&self, index: usize) -> Self {
        self.with(PathPart::Index(index))
    }

    fn with(&self, part: PathPart) -> Self {
        let mut parts = self.0.clone();
        parts.push(part);
        Self(parts)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render(&self.0, |index| index.to_string()))
    }
}

fn render(parts: &[PathPart], show_index: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    for part in parts {
        match part {
            PathPart::Key(key) if text.is_empty() => text.push_str(key),
            PathPart::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            PathPart::Index(index) => {
                text.push('[');
                text.push_str(&show_index(*index));
                text.push(']');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_keys_and_indices() {
        let path = KeyPath::default().key("models").index(2).key("name");
        assert_eq!(path.to_string(), "models[2].name");
        assert_eq!(path.pattern(), "models[].name");
    }
}
