//! Sizes and durations as people write them: `256MiB`, `500ms`.

use std::fmt;
use std::time::Duration;

use super::setting::{Text, Wrong};

/// A number of bytes, written `512`, `64KiB`, `256MiB`, `1GB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Units of bytes, largest first; the binary ones first, as they are shown by preference.
const BYTE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// A size in bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A size in KiB (1024 bytes).
    pub const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    /// A size in MiB (1024 KiB).
    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// The number of bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory; the longest possible one if it does not fit.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |&&(_, unit): &&(&str, u64)| unit > 1 && self.0 >= unit && self.0.is_multiple_of(unit);
        match BYTE_UNITS.iter().find(exact) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Text for ByteSize {
    fn expected() -> String {
        "a size like 512, 64KiB, 256MiB or 1GB".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let (number, unit) = split_number(text)?;
        let factor = match unit {
            "" => 1,
            _ => {
                let known = BYTE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
                known.map(|(_, factor)| *factor).ok_or(Wrong::Form)?
            }
        };
        let too_large = || Wrong::Because("it does not fit into 64 bits".to_owned());
        number.checked_mul(factor).map(Self).ok_or_else(too_large)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Units of time in milliseconds, largest first.
const TIME_UNITS: &[(&str, u64)] = &[("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Text for Duration {
    fn expected() -> String {
        "a duration like 500ms, 2s or 1m".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let (number, unit) = split_number(text)?;
        let (_, factor) = TIME_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| match unit {
            "" => Wrong::Because("the unit is missing: ms, s, m or h".to_owned()),
            _ => Wrong::Form,
        })?;
        let too_large = || Wrong::Because("it does not fit into 64 bits".to_owned());
        number.checked_mul(*factor).map(Self::from_millis).ok_or_else(too_large)
    }

    fn show(&self) -> String {
        duration_text(*self)
    }
}

/// The duration that a text like `500ms`, `2s` or `1m` names.
pub fn duration_of(text: &str) -> Option<Duration> {
    <Duration as Text>::parse(text).ok()
}

/// A duration as it is written in a configuration file, in the largest unit that shows it exactly:
/// `500ms`, `90s`, `1m`. What is finer than a millisecond is left out.
pub fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    let exact = |&&(_, unit): &&(&str, u64)| millis > 0 && millis.is_multiple_of(u128::from(unit));
    match TIME_UNITS.iter().find(exact) {
        Some((name, unit)) => format!("{}{name}", millis / u128::from(*unit)),
        None => format!("{millis}ms"),
    }
}

/// Digits and what follows them.
fn split_number(text: &str) -> Result<(u64, &str), Wrong> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.is_empty() {
        return Err(Wrong::Form);
    }
    let number = digits.parse().map_err(|_| Wrong::Because("it does not fit into 64 bits".to_owned()))?;
    Ok((number, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size(text: &str) -> Option<u64> {
        <ByteSize as Text>::parse(text).ok().map(ByteSize::as_u64)
    }

    fn time(text: &str) -> Option<u128> {
        <Duration as Text>::parse(text).ok().map(|time| time.as_millis())
    }

    #[test]
    fn sizes() {
        assert_eq!(size("256MiB"), Some(256 << 20));
        assert_eq!(size("64KiB"), Some(65_536));
        assert_eq!(size("1GB"), Some(1_000_000_000));
        assert_eq!(size("10 kb"), Some(10_000));
        assert_eq!(size("512"), Some(512));
        assert_eq!(size("0"), Some(0));
        let wrong =
            ["", "MiB", "-1", "1.5GiB", "1M", "0x10", "1GiBs", "99999999999999999999", "99999999999TiB"];
        assert!(wrong.into_iter().all(|text| size(text).is_none()));
        assert_eq!(ByteSize::kib(64).to_string(), "64KiB");
        assert_eq!(ByteSize::mib(1024).to_string(), "1GiB");
        assert_eq!(ByteSize::bytes(5_000_000).to_string(), "5MB");
        assert_eq!(ByteSize::bytes(1023).to_string(), "1023");
    }

    #[test]
    fn durations() {
        assert_eq!(time("500ms"), Some(500));
        assert_eq!(time("5s"), Some(5_000));
        assert_eq!(time("1m"), Some(60_000));
        assert_eq!(time("2h"), Some(7_200_000));
        assert_eq!(time("0ms"), Some(0));
        let wrong =
            ["", "5 parsecs", "5", "-5s", "1.5s", "s", "5S", "99999999999999999999s", "9999999999999999999h"];
        assert!(wrong.into_iter().all(|text| time(text).is_none()));
        assert_eq!(duration_text(Duration::from_secs(90)), "90s");
        assert_eq!(duration_text(Duration::from_secs(60)), "1m");
        assert_eq!(duration_text(Duration::ZERO), "0ms");
    }

    proptest! {
        #[test]
        fn shown_values_read_back(bytes in any::<u64>(), millis in 0..u64::MAX / 4) {
            prop_assert_eq!(size(&ByteSize::bytes(bytes).to_string()), Some(bytes));
            prop_assert_eq!(time(&duration_text(Duration::from_millis(millis))), Some(u128::from(millis)));
        }

        #[test]
        fn any_text_is_refused_or_read(text in any::<String>()) {
            let _ = (size(&text), time(&text));
        }
    }
}
