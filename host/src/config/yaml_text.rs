//! Values as YAML text that reads back as the same value.

/// A text as a scalar: as it is where that is safe in any context, else in double quotes.
pub(super) fn scalar(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

/// A text as a scalar that other YAML readers too take for a text: `"1"`, `"true"`.
pub(super) fn word(text: &str) -> String {
    let typed = text.parse::<f64>().is_ok()
        || ["true", "false", "yes", "no", "on", "off", "y", "n"]
            .iter()
            .any(|word| word.eq_ignore_ascii_case(text));
    if typed { quoted(text) } else { scalar(text) }
}

/// A list on one line.
pub(super) fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

/// Whether a text means itself without quotes, in a map, in a list and as a key.
fn is_plain(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '+' | '-');
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/'));
    // A colon is harmless between two characters that are plain themselves.
    let colons = text.split(':').all(|part| !part.is_empty() && part.chars().all(inner));
    starts_well && colons && !text.eq_ignore_ascii_case("null") && !text.starts_with("...")
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            _ if c.is_alphanumeric() => out.push(c),
            _ if u32::from(c) <= 0xffff => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tree::{self, Value};
    use super::*;

    #[test]
    fn plain_where_safe() {
        for text in ["127.0.0.1:8080", "500ms", "./models", "/var/x", "nuke_host", "accept-language"] {
            assert_eq!(scalar(text), text);
        }
        assert_eq!(scalar("[::1]:80"), "\"[::1]:80\"");
        assert_eq!(scalar("null"), "\"null\"");
        assert_eq!(scalar(""), "\"\"");
        assert_eq!(scalar("---"), "\"---\"");
        assert_eq!(word("1.0"), "\"1.0\"");
        assert_eq!(word("1.0.0"), "1.0.0");
        assert_eq!(list(["a".to_owned(), "b".to_owned()]), "[a, b]");
    }

    proptest! {
        #[test]
        fn any_text_reads_back(text in any::<String>(), other in "[\\PC\n\t]{0,12}") {
            let yaml = format!("{}:\n  - {}\n  - [{}, {}]\n", scalar(&text), scalar(&text), word(&other), scalar(&text));
            let mut problems = Vec::new();
            let root = tree::parse(&yaml, "test", &mut problems);
            prop_assert_eq!(&problems, &vec![]);
            let Some(Value::Mapping(entries)) = root.map(|root| root.value) else { panic!("no map") };
            prop_assert_eq!(&entries[0].key, &text);
            let Value::Sequence(items) = &entries[0].value.value else { panic!("no list") };
            let is = |node: &tree::Node, wanted: &str| {
                matches!(&node.value, Value::Scalar { text, .. } if text == wanted) && !node.is_null()
            };
            prop_assert!(is(&items[0], &text));
            let Value::Sequence(inner) = &items[1].value else { panic!("no list") };
            prop_assert!(is(&inner[0], &other) && is(&inner[1], &text));
        }
    }
}
