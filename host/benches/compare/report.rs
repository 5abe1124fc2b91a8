//! A table of figures, as Markdown for people or JSON for the script.

use serde_json::{Value, json};

/// Named rows with the same columns.
pub(crate) struct Report {
    title: String,
    rows: Vec<(String, Vec<(&'static str, f64)>)>,
}

impl Report {
    /// An empty table.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), rows: Vec::new() }
    }

    /// Adds a row. The columns of the first row are those of the table; units are in their names.
    pub(crate) fn row(
        &mut self,
        name: impl Into<String>,
        columns: impl IntoIterator<Item = (&'static str, f64)>,
    ) {
        self.rows.push((name.into(), columns.into_iter().collect()));
    }

    /// The whole table.
    pub(crate) fn render(&self, as_json: bool) -> String {
        if as_json { self.json().to_string() } else { self.markdown() }
    }

    /// Lists of pairs: the order of rows and columns is part of the table.
    fn json(&self) -> Value {
        json!({"title": self.title, "rows": self.rows})
    }

    fn markdown(&self) -> String {
        let names: Vec<_> =
            self.rows.first().map_or(&[][..], |row| &row.1).iter().map(|column| column.0).collect();
        let mut text = format!("### {}\n\n| |", self.title);
        for name in &names {
            text.push_str(&format!(" {} |", name.replace('_', " ")));
        }
        text.push_str("\n|---|");
        text.push_str(&"---:|".repeat(names.len()));
        text.push('\n');
        for (name, values) in &self.rows {
            text.push_str(&format!("| {name} |"));
            for (_, value) in values {
                text.push_str(&format!(" {} |", number(*value)));
            }
            text.push_str(&"  |".repeat(names.len().saturating_sub(values.len())));
            text.push('\n');
        }
        text
    }
}

/// Three digits, or more before the point.
fn number(value: f64) -> String {
    let places = match value.abs() {
        0.0 => 0,
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.places$}")
}
