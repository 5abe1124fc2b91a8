//! Words from elsewhere, made safe for a terminal, and numbers made readable.
//!
//! Owns the escaping of control characters and the units of durations, sizes and counts.

use std::time::Duration;

/// `text` with its control characters, line breaks and tabs excepted, escaped: an answer must not
/// be able to drive the terminal that shows it.
pub(super) fn printable(text: &str) -> String {
    escape(text, |character| character == '\n' || character == '\t')
}

/// As [`printable`], with line breaks and tabs escaped too.
pub(crate) fn one_line(text: &str) -> String {
    escape(text, |_| false)
}

fn escape(text: &str, is_kept: impl Fn(char) -> bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if (character.is_control() || is_direction_mark(character)) && !is_kept(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Marks that reorder the text around them.
const fn is_direction_mark(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most `limit` characters, with an ellipsis if some are left out.
pub(super) fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Three digits and a unit: `85.3 us`, `1.24 ms`, `2.31 s`.
pub(super) fn duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos() as f64;
    let (value, unit) = match duration.as_nanos() {
        0..1_000 => return format!("{nanoseconds} ns"),
        1_000..1_000_000 => (nanoseconds / 1e3, "us"),
        1_000_000..1_000_000_000 => (nanoseconds / 1e6, "ms"),
        _ => (nanoseconds / 1e9, "s"),
    };
    format!("{} {unit}", three_digits(value))
}

/// `912 B`, `3.10 kB`, `44.0 MB`: powers of ten.
pub(crate) fn bytes(count: f64) -> String {
    let (value, unit) = match count {
        count if count < 1e3 => return format!("{count:.0} B"),
        count if count < 1e6 => (count / 1e3, "kB"),
        count if count < 1e9 => (count / 1e6, "MB"),
        count => (count / 1e9, "GB"),
    };
    format!("{} {unit}", three_digits(value))
}

/// A rate: whole numbers from a hundred up, three digits below.
pub(super) fn rate(per_second: f64) -> String {
    if per_second >= 100.0 { format!("{per_second:.0}") } else { three_digits(per_second) }
}

fn three_digits(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_drive_a_terminal_is_escaped() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\td\r"), "a\\u{1b}[2Jb\nc\td\\r");
        assert_eq!(one_line("a\nb\u{202e}c"), "a\\nb\\u{202e}c");
        assert_eq!(printable("é 猫 🐱"), "é 猫 🐱");
    }

    #[test]
    fn shortening_counts_characters() {
        assert_eq!(shorten("猫猫猫", 2), "猫猫…");
        assert_eq!(shorten("猫猫", 2), "猫猫");
    }

    #[test]
    fn units_keep_three_digits() {
        let shown = |nanoseconds| duration(Duration::from_nanos(nanoseconds));
        assert_eq!([shown(0), shown(999), shown(1_000)], ["0 ns", "999 ns", "1.00 us"]);
        assert_eq!([shown(85_310), shown(1_240_000), shown(2_310_000_000)], ["85.3 us", "1.24 ms", "2.31 s"]);
        assert_eq!([bytes(912.0), bytes(3100.0), bytes(44e6)], ["912 B", "3.10 kB", "44.0 MB"]);
        assert_eq!([rate(12345.6), rate(9.5), rate(99.96)], ["12346", "9.50", "100"]);
    }
}
