//! What the elements of an output stand for, by their position: the names of classes.
//!
//! Owns the form of a file of labels and its bounds. It never knows what is done with them.

use std::collections::BTreeMap;

/// Bytes of all labels of an output: an answer to one row is not longer than the file.
const MAX_FILE: usize = 4 << 20;
/// Bytes of one label.
const MAX_LABEL: usize = 1024;

/// The labels of a version's outputs, by the output's name.
pub type OutputLabels = BTreeMap<String, Labels>;

/// The labels of one output, the first element's first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// All of them, without anything between.
    text: String,
    /// Where each of them ends, in bytes of `text`.
    ends: Vec<usize>,
}

impl Labels {
    /// Reads a file of one label a line. What ends the lines may be `\n` or `\r\n`; blanks around a label are not
    /// part of it, and an empty line is an element without one.
    ///
    /// # Errors
    /// What is wrong with the file: its size, a line's length, text that is not UTF-8, control characters.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MAX_FILE {
            return Err(format!("labels of {} bytes, expected at most {MAX_FILE}", bytes.len()));
        }
        let text =
            str::from_utf8(bytes).map_err(|error| format!("no UTF-8, as labels have to be: {error}"))?;
        let mut labels = Self::default();
        for (number, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
            let label = line.trim();
            if label.len() > MAX_LABEL {
                let length = label.len();
                return Err(format!(
                    "line {}: a label of {length} bytes, expected at most {MAX_LABEL}",
                    number + 1
                ));
            }
            if label.chars().any(char::is_control) {
                return Err(format!("line {}: a control character, expected text", number + 1));
            }
            labels.text.push_str(label);
            labels.ends.push(labels.text.len());
        }
        Ok(labels)
    }

    /// The label of an element, if it has one.
    pub fn get(&self, position: usize) -> Option<&str> {
        let end = *self.ends.get(position)?;
        let start = position.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.text.get(start..end).filter(|label| !label.is_empty())
    }

    /// How many elements have a line.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many bytes of memory they take.
    pub fn size(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_labels_by_their_position() {
        let labels = Labels::parse("\u{feff}cat\r\n  d: og \n\nбелка".as_bytes()).unwrap();
        let found: Vec<_> = (0..5).map(|position| labels.get(position)).collect();
        assert_eq!(found, [Some("cat"), Some("d: og"), None, Some("белка"), None]);
        assert_eq!(labels.len(), 4);
        assert!(Labels::parse(b"").unwrap().is_empty());
        assert_eq!(labels.get(usize::MAX), None);
    }

    #[test]
    fn files_that_are_none_are_refused_with_the_line() {
        for (bytes, needle) in [
            (b"a\n\xff".to_vec(), "UTF-8"),
            (b"a\nb\x1b[31m\n".to_vec(), "line 2: a control character"),
            ([b"a\n".to_vec(), vec![b'x'; MAX_LABEL + 1]].concat(), "line 2: a label of 1025 bytes"),
            (vec![b'\n'; MAX_FILE + 1], "expected at most 4194304"),
        ] {
            let error = Labels::parse(&bytes).unwrap_err();
            assert!(error.contains(needle), "{error}");
        }
        assert_eq!(Labels::parse(&vec![b'\n'; MAX_FILE]).unwrap().len(), MAX_FILE);
    }

    proptest! {
        #[test]
        fn each_label_is_found_where_it_was_written(words in prop::collection::vec("[a-zäß:]{0,9}", 0..50)) {
            let file: String = words.iter().map(|word| format!("{word}\n")).collect();
            let labels = Labels::parse(file.as_bytes()).unwrap();
            prop_assert_eq!(labels.len(), words.len());
            for (position, word) in words.iter().enumerate() {
                prop_assert_eq!(labels.get(position), Some(word.as_str()).filter(|word| !word.is_empty()));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Labels::parse(&bytes);
        }
    }
}
