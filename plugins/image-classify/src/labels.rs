//! The names of the classes.

use nuke_plugin_sdk::{Result, ensure};

/// The lines of a file, without the ends of line and the empty lines at its end. A line's place is its
/// class, so an empty line within is refused rather than skipped.
pub(crate) fn parse(path: &str, text: &str) -> Result<Vec<String>> {
    let labels: Vec<String> = text.trim_end().lines().map(|line| line.trim().to_owned()).collect();
    ensure!(!labels.is_empty(), internal, "{path} has no labels: one per line is expected");
    if let Some(line) = labels.iter().position(String::is_empty) {
        ensure!(false, internal, "{path}: line {} is empty, a label is expected", line + 1);
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_line_of_any_kind_are_dropped() {
        assert_eq!(parse("l", "cat\r\n tiger cat \ndog\n\n").unwrap(), ["cat", "tiger cat", "dog"]);
    }

    #[test]
    fn no_labels_and_gaps_are_refused() {
        assert_eq!(parse("l", "\n").unwrap_err().message, "l has no labels: one per line is expected");
        let error = parse("l", "cat\n\ndog").unwrap_err();
        assert_eq!(error.message, "l: line 2 is empty, a label is expected");
    }
}
