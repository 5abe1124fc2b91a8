//! A body of CSV: `date,co2` a line, or one value a line, or all values in one line; oldest first. A first
//! line that begins with `date` or `co2` is a heading.

use nuke_plugin_sdk::{Result, bail};

use crate::date::Date;
use crate::series::{Collector, Series, shortened};

/// Reads the body. Empty lines are passed over.
///
/// # Errors
/// `InvalidInput`, naming the line.
pub(crate) fn read(text: &str) -> Result<Series> {
    let mut lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()).peekable();
    let mut weeks = Collector::default();
    if lines.next_if(|(line, _)| is_heading(line)).is_none() {
        // The body is trimmed, so one line is all of it.
        let fields = || text.split(',').map(bare);
        if !text.contains('\n') && fields().count() > 2 {
            for (value, week) in fields().zip(1..) {
                weeks.push(&format!("value {week}"), None, value)?;
            }
            return weeks.finish();
        }
    }
    for (line, number) in lines {
        push_line(&mut weeks, line, number)?;
    }
    weeks.finish()
}

fn push_line(weeks: &mut Collector, line: &str, number: usize) -> Result<()> {
    let place = format!("line {number}");
    let mut fields = line.split(',').map(bare);
    match (fields.next(), fields.next(), fields.next()) {
        (Some(value), None, _) => weeks.push(&place, None, value),
        (Some(day), Some(value), None) => {
            let Some(date) = Date::parse(day) else {
                bail!(invalid, "{place}: '{}' is no date like 2001-12-29", shortened(day));
            };
            weeks.push(&place, Some(date), value)
        }
        _ => bail!(
            invalid,
            "{place} has {} fields, expected a date and a value, or a value alone",
            line.split(',').count()
        ),
    }
}

fn is_heading(line: &str) -> bool {
    let first = line.split(',').next().map(bare).unwrap_or_default();
    ["date", "co2"].iter().any(|name| first.eq_ignore_ascii_case(name))
}

/// A field without the blanks and quotes around it.
fn bare(field: &str) -> &str {
    let field = field.trim();
    field.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(field).trim()
}
