//! What the commands' arguments mean: durations, headers, `name=value` pairs.
//!
//! Each parser takes the whole argument or says what was expected and what came.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

const UNITS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Parses `250ms`, `10s`, `1.5m`: a number and a unit, at most a day.
pub(super) fn parse_duration(argument: &str) -> Result<Duration, String> {
    let expected = || format!("'{argument}' is no duration: a number and a unit such as 250ms, 10s or 2m");
    let digits = argument.find(|character: char| !character.is_ascii_digit() && character != '.');
    let (number, unit) = argument.split_at(digits.unwrap_or(argument.len()));
    let number: f64 = number.parse().map_err(|_| expected())?;
    if number == 0.0 && unit.is_empty() {
        return Ok(Duration::ZERO);
    }
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
    let seconds = number * scale;
    if seconds > 86_400.0 {
        return Err(format!("'{argument}' is over a day"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| expected())
}

/// As [`parse_duration`], refusing zero.
pub(super) fn parse_positive_duration(argument: &str) -> Result<Duration, String> {
    match parse_duration(argument)? {
        Duration::ZERO => Err("it must be more than 0".to_owned()),
        duration => Ok(duration),
    }
}

/// A request header. The value may be a secret: it is never shown.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// Lower-case.
    pub(super) name: HeaderName,
    /// Marked as sensitive, so that `Debug` hides it.
    pub(super) value: HeaderValue,
}

/// Parses `Name: value`.
pub(super) fn parse_header(argument: &str) -> Result<Header, String> {
    let (name, value) =
        argument.split_once(':').ok_or("a header is 'Name: value', and this has no colon".to_owned())?;
    let name: HeaderName =
        name.trim().parse().map_err(|_| format!("'{}' is no header name", name.escape_debug()))?;
    let mut value = HeaderValue::from_str(value.trim())
        .map_err(|_| format!("the value of header '{name}' has characters that a header cannot carry"))?;
    value.set_sensitive(true);
    Ok(Header { name, value })
}

/// Parses `name=value`; the value may be empty and may hold further `=`.
pub(super) fn parse_pair(argument: &str) -> Result<(String, String), String> {
    match argument.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("'{argument}' is no pair: expected name=value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_a_number_and_a_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("3µs"), Ok(Duration::from_micros(3)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for wrong in ["", "10", "s", "1.2.3s", "-1s", "1e9s", "10 s", "5 parsecs", "25h", "NaNs", "infs"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert!(parse_positive_duration("0s").is_err());
    }

    #[test]
    fn headers_take_a_name_and_a_value_and_hide_it() {
        let header = parse_header("Authorization: Bearer a:b").unwrap();
        assert_eq!(header.name, "authorization");
        assert_eq!(header.value.as_bytes(), b"Bearer a:b");
        assert!(!format!("{header:?}").contains("Bearer"));
        for wrong in ["nothing", ": x", "a b: c", "x: a\r\nb: c"] {
            assert!(parse_header(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pairs_split_at_the_first_equals_sign() {
        assert_eq!(parse_pair("k=a=b").unwrap(), ("k".to_owned(), "a=b".to_owned()));
        assert_eq!(parse_pair("k=").unwrap(), ("k".to_owned(), String::new()));
        assert!(parse_pair("k").is_err() && parse_pair("=v").is_err());
    }
}
