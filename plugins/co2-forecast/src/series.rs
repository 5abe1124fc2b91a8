//! A year of weeks, complete and in order, or the reason why it is not.

use std::ops::RangeInclusive;

use nuke_plugin_sdk::{Result, bail, ensure};

use crate::date::Date;

/// How many weeks the model looks back.
pub(crate) const WEEKS: usize = 52;
/// What passes for a concentration, in ppm. What lies outside is another unit, or a mark for a gap such as
/// -99.99.
const PLAUSIBLE: RangeInclusive<f32> = 100.0..=2000.0;

/// The model's input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    /// In ppm, oldest first; as many as [`WEEKS`].
    pub(crate) values: Vec<f32>,
    /// The day of the last one, if the client said.
    pub(crate) last: Option<Date>,
}

/// Takes weeks one by one. Those beyond [`WEEKS`] are counted, not kept.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    values: Vec<f32>,
    last: Option<Date>,
    count: usize,
}

impl Collector {
    /// Adds the next week; `place` is how errors name it, and `text` the value as it was sent.
    ///
    /// # Errors
    /// `InvalidInput` if the value is missing or implausible, or the date does not follow the one before.
    pub(crate) fn push(&mut self, place: &str, date: Option<Date>, text: &str) -> Result<()> {
        self.count += 1;
        if self.count > WEEKS {
            return Ok(());
        }
        self.check_date(place, date)?;
        let place = date.map_or_else(|| place.to_owned(), |date| format!("{place} ({date})"));
        ensure!(
            !text.is_empty(),
            invalid,
            "{place} has no value: fill the gap, the model needs all {WEEKS} weeks"
        );
        match text.parse::<f32>() {
            Ok(value) if PLAUSIBLE.contains(&value) => self.values.push(value),
            Ok(_) => bail!(
                invalid,
                "{place}: {} is no concentration, expected ppm from {} to {}",
                shortened(text),
                PLAUSIBLE.start(),
                PLAUSIBLE.end()
            ),
            Err(_) => bail!(invalid, "{place}: '{}' is no number", shortened(text)),
        }
        self.last = date;
        Ok(())
    }

    /// What was collected.
    ///
    /// # Errors
    /// `InvalidInput` if there were not as many as [`WEEKS`].
    pub(crate) fn finish(self) -> Result<Series> {
        let count = self.count;
        let remedy = if count > WEEKS { ": send the last ones only" } else { "" };
        ensure!(count == WEEKS, invalid, "{WEEKS} weekly values are expected, got {count}{remedy}");
        Ok(Series { values: self.values, last: self.last })
    }

    fn check_date(&self, place: &str, date: Option<Date>) -> Result<()> {
        if self.values.is_empty() {
            return Ok(());
        }
        let (before, date) = match (self.last, date) {
            (None, None) => return Ok(()),
            (Some(before), Some(date)) => (before, date),
            (Some(_), None) => bail!(invalid, "{place} has no date, but those before it have"),
            (None, Some(_)) => bail!(invalid, "{place} has a date, but those before it have none"),
        };
        let expected = before.weeks_later(1);
        ensure!(
            date >= expected,
            invalid,
            "{place}: {date} is less than a week after {before}; one value a week is expected, oldest first"
        );
        ensure!(
            date == expected,
            invalid,
            "{place}: the week of {expected} is missing, {before} is followed by {date}; fill the gap"
        );
        Ok(())
    }
}

/// A piece of what a client sent, short enough for a message.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 32;
    if text.chars().count() <= MOST {
        return text.escape_debug().to_string();
    }
    let start: String = text.chars().take(MOST).collect();
    format!("{}…", start.escape_debug())
}
