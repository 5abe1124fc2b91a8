//! Days of the Gregorian calendar: read, written, counted. No times, no zones.

use std::fmt::{self, Display};

/// A day, as the number of days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Date(pub(crate) i32);

/// Days of a whole cycle of leap years.
const DAYS_OF_400_YEARS: i32 = 146_097;
/// From 0000-03-01, where the count of [`Date::from_parts`] begins, to 1970-01-01.
const DAYS_TO_1970: i32 = 719_468;

impl Date {
    /// Reads `2001-12-29` or `20011229`. `None` for anything else, and for days that no month has.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let digits: Vec<u8> = match bytes.len() {
            8 => bytes.to_vec(),
            10 if bytes[4] == b'-' && bytes[7] == b'-' => [&bytes[..4], &bytes[5..7], &bytes[8..]].concat(),
            _ => return None,
        };
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = |part: &[u8]| part.iter().fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0'));
        let (year, month, day) = (number(&digits[..4]), number(&digits[4..6]), number(&digits[6..]));
        if !(1..=12).contains(&month) {
            return None;
        }
        let date = Self::from_parts(year, month, day);
        // 30 February becomes a day of March, and is noticed by that.
        (date.parts() == (year, month, day)).then_some(date)
    }

    /// The day so many weeks later.
    pub(crate) fn weeks_later(self, weeks: i32) -> Self {
        Self(self.0.saturating_add(weeks.saturating_mul(7)))
    }

    /// Years begin with March here, so that the leap day is a year's last.
    fn from_parts(year: i32, month: i32, day: i32) -> Self {
        let year = if month < 3 { year - 1 } else { year };
        let (cycle, year) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let day_of_cycle = year * 365 + year / 4 - year / 100 + day_of_year;
        Self(cycle * DAYS_OF_400_YEARS + day_of_cycle - DAYS_TO_1970)
    }

    fn parts(self) -> (i32, i32, i32) {
        let days = self.0.saturating_add(DAYS_TO_1970);
        let (cycle, day) = (days.div_euclid(DAYS_OF_400_YEARS), days.rem_euclid(DAYS_OF_400_YEARS));
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        (cycle * 400 + year + i32::from(month < 3), month, day)
    }
}

impl Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.parts();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_ways_of_writing_are_read() {
        // Python: (date(2001, 12, 29) - date(1970, 1, 1)).days
        for (text, days) in
            [("1970-01-01", 0), ("2001-12-29", 11_685), ("19580329", -4296), ("2000-02-29", 11_016)]
        {
            assert_eq!(Date::parse(text), Some(Date(days)), "{text}");
        }
        assert_eq!(Date(11_685).weeks_later(1).to_string(), "2002-01-05");
    }

    #[test]
    fn what_is_no_day_is_none() {
        for text in [
            "",
            "2001",
            "2001-13-01",
            "2001-00-10",
            "2001-02-29",
            "1900-02-29",
            "2001-04-31",
            "2001-12-00",
            "2001/12/29",
            "29.12.2001",
            "2001-1-29",
            "+0011229",
            "2001-12-2x",
            "200112299",
            "２００１",
        ] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn what_is_written_is_read_again(days in -719_000..2_932_000) {
            prop_assert_eq!(Date::parse(&Date(days).to_string()), Some(Date(days)));
            let (tomorrow, today) = (Date(days + 1).parts(), Date(days).parts());
            prop_assert!(tomorrow > today);
        }

        #[test]
        fn no_text_panics(text in ".{0,12}") {
            let _ = Date::parse(&text);
        }
    }
}
