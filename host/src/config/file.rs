//! Reading a YAML file into a tree, within a size.

use std::path::Path;

use super::problem::Problem;
use super::tree::{self, Node};
use crate::whole_file::{Unread, read_regular_at_most};

/// The largest file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// The largest file of API keys that is read, in bytes: some 50000 keys.
pub const MAX_KEY_FILE: u64 = 16 << 20;

/// Reads a file. What is wrong with it is added to `problems`; `None` if it cannot be used at all.
pub(super) fn read(path: &Path, problems: &mut Vec<Problem>) -> Option<Node> {
    let name = path.display().to_string();
    match read_bytes(path) {
        Ok(bytes) => decode(&bytes, &name, problems),
        Err(message) => {
            problems.push(Problem::whole(&name, message));
            None
        }
    }
}

/// The bytes as a tree.
pub(super) fn decode(bytes: &[u8], name: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    if bytes.len() as u64 > MAX_FILE {
        problems.push(Problem::whole(name, too_large()));
        return None;
    }
    decode_within(tree::Limits::CONFIG, bytes, name, problems)
}

/// The bytes of a file of API keys as a tree.
pub(super) fn decode_keys(bytes: &[u8], name: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    if bytes.len() as u64 > MAX_KEY_FILE {
        problems.push(Problem::whole(
            name,
            format!("larger than {MAX_KEY_FILE} bytes; remove keys that are revoked"),
        ));
        return None;
    }
    decode_within(tree::Limits::KEYS, bytes, name, problems)
}

fn decode_within(
    limits: tree::Limits,
    bytes: &[u8],
    name: &str,
    problems: &mut Vec<Problem>,
) -> Option<Node> {
    match std::str::from_utf8(bytes) {
        Ok(text) => tree::parse_within(limits, text, name, problems),
        Err(error) => {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            let message = format!("not UTF-8 text: a wrong byte at offset {}", error.valid_up_to());
            problems.push(Problem { line, column: 1, ..Problem::whole(name, message) });
            None
        }
    }
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    read_regular_at_most(path, MAX_FILE).map_err(|unread| match unread {
        Unread::TooLarge => too_large(),
        other => format!("cannot be read: {other}"),
    })
}

fn too_large() -> String {
    format!("larger than {MAX_FILE} bytes; a configuration file is small, is this the right file?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(bytes: &[u8]) -> Vec<String> {
        let mut problems = Vec::new();
        decode(bytes, "x.yaml", &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn refuses_what_is_no_small_text() {
        assert!(problems_of(b"a: b\nc: d\n").is_empty());
        assert_eq!(problems_of(b"a: b\n\xff"), ["x.yaml:2:1: not UTF-8 text: a wrong byte at offset 5"]);
        let large = vec![b'#'; MAX_FILE as usize + 1];
        assert!(problems_of(&large)[0].starts_with("x.yaml: larger than 1048576 bytes"));
        assert!(problems_of(&large[1..]).is_empty());
    }

    #[test]
    fn refuses_folders_and_missing_files() {
        let mut problems = Vec::new();
        assert!(read(&std::env::temp_dir(), &mut problems).is_none());
        assert!(read(Path::new("no/such/file.yaml"), &mut problems).is_none());
        assert_eq!(problems[0].message, "cannot be read: not a regular file");
        assert!(problems[1].to_string().starts_with("no/such/file.yaml: cannot be read: "));
    }
}
