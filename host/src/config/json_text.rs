//! A YAML value as JSON on one line.

use super::tree::{Node, Value};

/// The value as JSON. A word without quotes that is a JSON number, `true`, `false` or a form of
/// `null` is that; all else is a string. The order of keys is kept.
pub(super) fn of(node: &Node) -> String {
    let mut out = String::new();
    write(node, &mut out);
    out
}

fn write(node: &Node, out: &mut String) {
    match &node.value {
        _ if node.is_null() => out.push_str("null"),
        Value::Scalar { text, plain: true } if is_literal(text) => out.push_str(text),
        Value::Scalar { text, .. } => write_string(text, out),
        Value::Sequence(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Mapping(entries) => {
            out.push('{');
            for (index, entry) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(&entry.key, out);
                out.push(':');
                write(&entry.value, out);
            }
            out.push('}');
        }
    }
}

/// Whether a word is `true`, `false` or a number by JSON's grammar.
fn is_literal(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let exponent_fits = exponent.is_none_or(|text| digits(text.strip_prefix(['+', '-']).unwrap_or(text)));
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    let number = digits(whole) && !leading_zero && fraction.is_none_or(digits) && exponent_fits;
    number || matches!(text, "true" | "false")
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // JSON asks for the first range; YAML, where this is shown, for the rest.
            '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_by_the_grammar() {
        for text in ["0", "-1", "1.5", "1e9", "-0.5E-3", "true", "false", "123456789012345678901234567890"] {
            assert!(is_literal(text), "{text}");
        }
        for text in ["", "-", "01", "+1", ".5", "5.", "1e", "1e+", "0x1f", "1_000", "inf", "True", "1.2.3"] {
            assert!(!is_literal(text), "{text}");
        }
    }

    #[test]
    fn strings_are_escaped() {
        let mut out = String::new();
        write_string("a\"\\\n\u{1}é😀", &mut out);
        assert_eq!(out, "\"a\\\"\\\\\\n\\u0001é😀\"");
    }
}
