//! Text in aligned columns.
//!
//! Owns the widths and the alignment. The cells come ready and safe to print.

/// Which edge the cells of a column share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A heading and rows beneath it, two spaces between the columns.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(columns: impl IntoIterator<Item = (String, Align)>) -> Self {
        Self { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty, surplus ones are not shown.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// The table's lines, each ended by a line break.
    pub(crate) fn render(&self) -> String {
        let headings: Vec<String> = self.columns.iter().map(|(heading, _)| heading.clone()).collect();
        let widths: Vec<usize> =
            (0..self.columns.len()).map(|column| self.width(&headings, column)).collect();
        let mut rendered = String::new();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for (column, (&width, (_, align))) in widths.iter().zip(&self.columns).enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                if column > 0 {
                    line.push_str("  ");
                }
                match align {
                    Align::Left => line.push_str(&format!("{cell:<width$}")),
                    Align::Right => line.push_str(&format!("{cell:>width$}")),
                }
            }
            rendered.push_str(line.trim_end());
            rendered.push('\n');
        }
        rendered
    }

    fn width(&self, headings: &[String], column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row.get(column)).chain([headings.get(column)]);
        cells.flatten().map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        let mut table = Table::new([("name".to_owned(), Align::Left), ("n".to_owned(), Align::Right)]);
        table.push(vec!["é".to_owned(), "10".to_owned()]);
        table.push(vec!["longer".to_owned()]);
        table.push(vec!["x".to_owned(), "1".to_owned(), "surplus".to_owned()]);
        assert_eq!(table.render(), "name     n\né       10\nlonger\nx        1\n");
    }
}
