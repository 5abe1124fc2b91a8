//! A body of JSON: `{"co2": [369.2, …], "until": "2001-12-29"}`, or the list alone; oldest first. `until` is
//! the day of the last value, and may be left out.

use nuke_plugin_sdk::{Result, ResultExt, bail, ensure};
use serde_json::Value;

use crate::date::Date;
use crate::series::{Collector, Series, shortened};

/// Reads the body.
///
/// # Errors
/// `InvalidInput`, naming the field or the value's place.
pub(crate) fn read(text: &str) -> Result<Series> {
    let body: Value = serde_json::from_str(text).or_invalid("the body is no JSON")?;
    let fields = match body {
        Value::Array(values) => return collect(&values),
        Value::Object(fields) => fields,
        // The first character was a bracket or a brace.
        _ => bail!(invalid, "the body is neither a list nor an object"),
    };
    if let Some(unknown) = fields.keys().find(|name| !["co2", "until"].contains(&name.as_str())) {
        bail!(invalid, "field '{}' is unknown, expected 'co2' and 'until'", shortened(unknown));
    }
    let Some(Value::Array(values)) = fields.get("co2") else {
        bail!(invalid, "field 'co2' is not there or no list: it holds the weekly values, oldest first");
    };
    let mut series = collect(values)?;
    series.last = fields.get("until").map(until).transpose()?;
    Ok(series)
}

fn collect(values: &[Value]) -> Result<Series> {
    let mut weeks = Collector::default();
    for (value, week) in values.iter().zip(1..) {
        let place = format!("value {week}");
        match value {
            Value::Number(number) => weeks.push(&place, None, &number.to_string())?,
            Value::Null => weeks.push(&place, None, "")?,
            other => bail!(invalid, "{place}: {} is no number", shortened(&other.to_string())),
        }
    }
    weeks.finish()
}

fn until(value: &Value) -> Result<Date> {
    let date = value.as_str().and_then(Date::parse);
    ensure!(
        date.is_some(),
        invalid,
        "field 'until': {} is no date like \"2001-12-29\"",
        shortened(&value.to_string())
    );
    date.or_invalid("field 'until'")
}
