//! An answer's body as a person wants to read it.
//!
//! Owns the choice of form: a table for lists of like objects, indented JSON for other JSON, text
//! for text, one line about anything else. It never lets a control character through.

use serde_json::{Map, Value};

use super::table::{Align, Table};
use super::text;

/// The longest value, in characters, that a table's cell holds.
const CELL_CHARACTERS: usize = 60;
/// A full bar, in characters.
const BAR_CHARACTERS: usize = 24;
/// The columns that get a bar, if all their values are from 0 to 1.
const BAR_COLUMNS: [&str; 4] = ["probability", "score", "confidence", "prob"];

/// Shows a body, ending in a line break.
pub(super) fn show(content_type: &str, body: &[u8]) -> String {
    if body.is_empty() {
        return "(the answer is empty)\n".to_owned();
    }
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        return show_json(&value);
    }
    match std::str::from_utf8(body) {
        Ok(body) if !body.contains('\0') => with_line_break(text::printable(body)),
        _ => {
            let kind = if content_type.is_empty() { "no content type" } else { content_type };
            format!("({} bytes of {}; --json writes them as they came)\n", body.len(), text::one_line(kind))
        }
    }
}

fn show_json(value: &Value) -> String {
    let shown = match value {
        Value::Array(items) => table_of(items).map(|table| table.render()),
        Value::Object(fields) => show_object(fields),
        _ => None,
    };
    // JSON escapes control characters below 0x20 by itself; `printable` takes the others.
    shown.unwrap_or_else(|| with_line_break(text::printable(&format!("{value:#}"))))
}

/// An object of plain values and at least one list of objects: a line for each value, then a table
/// for each list.
fn show_object(fields: &Map<String, Value>) -> Option<String> {
    let mut lines = String::new();
    let mut tables = Vec::new();
    for (name, value) in fields {
        match value {
            Value::Array(items) if !items.is_empty() => tables.push((name, table_of(items)?)),
            other => lines.push_str(&format!("{}: {}\n", text::one_line(name), cell(other)?)),
        }
    }
    let is_single = tables.len() == 1;
    for (name, table) in &tables {
        if !lines.is_empty() {
            lines.push('\n');
        }
        if !is_single {
            lines.push_str(&format!("{}\n", text::one_line(name)));
        }
        lines.push_str(&table.render());
    }
    (!tables.is_empty()).then_some(lines)
}

/// A table of objects whose values fit cells; `None` if these are something else.
fn table_of(items: &[Value]) -> Option<Table> {
    let objects: Vec<&Map<String, Value>> = items.iter().map(Value::as_object).collect::<Option<_>>()?;
    let mut names: Vec<&String> = Vec::new();
    for name in objects.iter().flat_map(|object| object.keys()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort_by_key(|name| column_rank(name));
    if names.is_empty() || names.len() > 16 {
        return None;
    }
    let bar = names.iter().find(|name| BAR_COLUMNS.contains(&name.as_str()) && is_share(&objects, name));
    let columns = names.iter().map(|name| (text::one_line(name), alignment(&objects, name)));
    let mut table = Table::new(columns.chain(bar.map(|_| (String::new(), Align::Left))));
    for object in &objects {
        let mut row = Vec::new();
        for name in &names {
            let value = object.get(*name);
            row.push(match value {
                Some(share) if Some(name) == bar => format!("{:.4}", share.as_f64()?),
                Some(value) => cell(value)?,
                None => String::new(),
            });
        }
        if let Some(name) = bar {
            row.push(bar_of(object.get(*name).and_then(Value::as_f64)?));
        }
        table.push(row);
    }
    Some(table)
}

/// What something is called comes first, how sure it is comes last, beside its bar.
fn column_rank(name: &str) -> u8 {
    match name {
        "label" | "name" | "class" | "text" => 0,
        name if BAR_COLUMNS.contains(&name) => 2,
        _ => 1,
    }
}

fn is_share(objects: &[&Map<String, Value>], name: &str) -> bool {
    let value = |object: &&Map<String, Value>| object.get(name).and_then(Value::as_f64);
    objects.iter().all(|object| value(object).is_some_and(|share| (0.0..=1.0).contains(&share)))
}

fn alignment(objects: &[&Map<String, Value>], name: &str) -> Align {
    let all_numbers = objects.iter().all(|object| object.get(name).is_none_or(Value::is_number));
    if all_numbers { Align::Right } else { Align::Left }
}

/// A value that fits a cell.
fn cell(value: &Value) -> Option<String> {
    match value {
        Value::String(string) => Some(text::shorten(&text::one_line(string), CELL_CHARACTERS)),
        Value::Object(_) => None,
        other => Some(other.to_string()).filter(|shown| shown.chars().count() <= CELL_CHARACTERS),
    }
}

/// A bar of block characters, to an eighth of a character.
fn bar_of(share: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (BAR_CHARACTERS * 8) as f64).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

fn with_line_break(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_become_a_table_with_a_bar() {
        let body = br#"{"predictions":[{"index":967,"label":"espresso","probability":0.5},
                                        {"index":1,"label":"cup","probability":0.0626}]}"#;
        let expected = "label     index  probability\n\
                        espresso    967       0.5000  ████████████\n\
                        cup           1       0.0626  █▌\n";
        assert_eq!(show("application/json", body), expected);
    }

    #[test]
    fn plain_values_come_before_the_table_and_missing_cells_are_empty() {
        let body = br#"{"model":"m","boxes":[{"label":"a","box":[1,2,3,4]},{"label":"b"}],"none":[]}"#;
        let expected = "model: m\nnone: []\n\nlabel  box\na      [1,2,3,4]\nb\n";
        assert_eq!(show("application/json", body), expected);
    }

    #[test]
    fn two_lists_are_two_named_tables() {
        let shown = show("", br#"{"a":[{"x":1}],"b":[{"y":"z"}]}"#);
        assert_eq!(shown, "a\nx\n1\n\nb\ny\nz\n");
    }

    #[test]
    fn other_json_is_indented() {
        assert_eq!(show("", b"[1,2]"), "[\n  1,\n  2\n]\n");
        let nested = show("", br#"{"a":[{"x":{"deep":1}}]}"#);
        assert!(nested.contains("\"deep\": 1"), "{nested}");
        let long = format!(r#"{{"a":[{{"x":[{}0]}}]}}"#, "0,".repeat(100));
        assert!(show("", long.as_bytes()).starts_with("{\n"));
        assert_eq!(show("", b"\"caf\xc3\xa9\""), "\"café\"\n");
    }

    #[test]
    fn a_probability_that_is_none_gets_no_bar() {
        let shown = show("", br#"[{"probability":1.5},{"probability":0.1}]"#);
        assert_eq!(shown, "probability\n        1.5\n        0.1\n");
    }

    #[test]
    fn text_and_octets_are_shown_safely() {
        assert_eq!(show("text/plain", b"hello\x1b[2J"), "hello\\u{1b}[2J\n");
        let octets = show("image/png\x1b", b"\x89PNG\0");
        assert_eq!(octets, "(5 bytes of image/png\\u{1b}; --json writes them as they came)\n");
        assert_eq!(show("", b""), "(the answer is empty)\n");
        let hostile = show("", br#"{"p":[{"label":"\u001b[2J\n\u202e"}]}"#);
        assert_eq!(hostile, "label\n\\u{1b}[2J\\n\\u{202e}\n");
        assert!(!show("", "{\"a\":{\"b\":\"\u{9b}2J\"}}".as_bytes()).contains('\u{9b}'));
    }

    #[test]
    fn deep_nesting_is_text_not_a_crash() {
        let deep = "[".repeat(100_000);
        assert_eq!(show("", deep.as_bytes()).len(), 100_001);
    }
}
