//! Names with values, as text: a request's parameters and a bundle's settings.
//!
//! Owns how text becomes a typed value, and what the client or the bundle's author reads if it does
//! not.

use std::any::type_name;
#[cfg(feature = "json")]
use std::fmt::Display;
use std::str::FromStr;

use crate::error::{Error, ErrorCode, Result};

/// The parameters of a request: the query string's pairs in order, then the selected request headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Wraps pairs in their order.
    pub const fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// The value of one parameter; the first, if it was given several times.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// All values of one parameter, in order.
    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        values(&self.0, name)
    }

    /// The value of one parameter as a number, a `bool` or anything else that is read from text.
    ///
    /// ```
    /// # use nuke_plugin_sdk::Parameters;
    /// let parameters = Parameters::new(vec![("k".into(), "many".into())]);
    /// let error = parameters.get::<usize>("k").unwrap_err();
    /// assert_eq!(error.message, "parameter 'k' must be a whole number of at least 0, got 'many'");
    /// assert_eq!(parameters.get::<f32>("threshold")?, None);
    /// # Ok::<(), nuke_plugin_sdk::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` if it cannot be read, or was given several times.
    pub fn get<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        parse(&self.0, name, "parameter", ErrorCode::InvalidInput)
    }

    /// The value of a request header; the name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let wanted = name.to_ascii_lowercase();
        let header = |(name, _): &&(String, String)| name.strip_prefix("header:") == Some(&wanted);
        self.0.iter().find(header).map(|(_, value)| value.as_str())
    }

    /// All pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// The pairs under `settings:` in bundle.yaml.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<(String, String)>);

impl Settings {
    /// Wraps pairs in their order.
    pub const fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// One setting as text: a scalar as written, a list or a map as JSON.
    pub fn text(&self, name: &str) -> Option<&str> {
        values(&self.0, name).next()
    }

    /// One setting as a number, a `bool` or anything else that is read from text.
    ///
    /// # Errors
    /// `Internal` if it cannot be read: the bundle is at fault, not the request.
    pub fn get<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        parse(&self.0, name, "setting", ErrorCode::Internal)
    }

    /// One setting that is a list or a single value: `mean: [0.5, 0.4, 0.3]` or `mean: 0.5`.
    ///
    /// # Errors
    /// `Internal` if it is neither.
    #[cfg(feature = "json")]
    pub fn list<T: FromStr>(&self, name: &str) -> Result<Option<Vec<T>>> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        if !text.trim_start().starts_with('[') {
            return Ok(self.get(name)?.map(|value| vec![value]));
        }
        let refused = |what: &dyn Display| {
            Error::internal(format!(
                "setting '{name}' must be a list of which each is {}: {what}",
                kind::<T>()
            ))
        };
        let values: Vec<serde_json::Value> = serde_json::from_str(text).map_err(|error| refused(&error))?;
        let read = |value: serde_json::Value| {
            let text = match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            text.parse().map_err(|_| refused(&format_args!("got '{}'", shortened(&text))))
        };
        values.into_iter().map(read).collect::<Result<Vec<T>>>().map(Some)
    }

    /// One setting that is a list or a map, by serde.
    ///
    /// # Errors
    /// `Internal` if it is not what `T` expects.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let read = |text| {
            serde_json::from_str(text).map_err(|error| Error::internal(format!("setting '{name}': {error}")))
        };
        self.text(name).map(read).transpose()
    }

    /// All pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn values<'a>(pairs: &'a [(String, String)], name: &str) -> impl Iterator<Item = &'a str> {
    pairs.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn parse<T: FromStr>(
    pairs: &[(String, String)],
    name: &str,
    noun: &str,
    fault: ErrorCode,
) -> Result<Option<T>> {
    let mut found = values(pairs, name);
    let Some(text) = found.next() else {
        return Ok(None);
    };
    let others = found.count();
    if others > 0 {
        return Err(Error::new(fault, format!("{noun} '{name}' is given {} times, not once", others + 1)));
    }
    text.trim().parse().map(Some).map_err(|_| {
        Error::new(fault, format!("{noun} '{name}' must be {}, got '{}'", kind::<T>(), shortened(text)))
    })
}

/// What a value of a type looks like, for people.
fn kind<T>() -> &'static str {
    match type_name::<T>() {
        "u8" => "a whole number from 0 to 255",
        "u16" | "u32" | "u64" | "u128" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "bool" => "true or false",
        "char" => "a single letter",
        _ => "of another form",
    }
}

/// Enough of a value to recognise it.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 40;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn a_parameter_is_read_by_type() {
        let parameters =
            Parameters::new(pairs(&[("k", " 5"), ("x", "-1.5"), ("on", "true"), ("header:x-user", "me")]));
        assert_eq!(parameters.get::<usize>("k").unwrap(), Some(5));
        assert_eq!(parameters.get::<f32>("x").unwrap(), Some(-1.5));
        assert_eq!(parameters.get::<bool>("on").unwrap(), Some(true));
        assert_eq!(parameters.get::<bool>("off").unwrap(), None);
        assert_eq!(parameters.header("X-User"), Some("me"));
        assert_eq!(parameters.text("k"), Some(" 5"));
    }

    #[test]
    fn a_bad_parameter_is_the_clients_fault_and_a_bad_setting_the_bundles() {
        let bad = pairs(&[("k", "-1"), ("twice", "1"), ("twice", "2")]);
        let parameters = Parameters::new(bad.clone());
        let error = parameters.get::<usize>("k").unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidInput);
        assert_eq!(error.message, "parameter 'k' must be a whole number of at least 0, got '-1'");
        let error = parameters.get::<usize>("twice").unwrap_err();
        assert_eq!(error.message, "parameter 'twice' is given 2 times, not once");
        let error = Settings::new(bad).get::<u8>("k").unwrap_err();
        assert_eq!(error.code, ErrorCode::Internal);
        assert_eq!(error.message, "setting 'k' must be a whole number from 0 to 255, got '-1'");
    }

    #[test]
    fn a_long_value_is_shortened_in_the_message() {
        let parameters = Parameters::new(vec![("k".to_owned(), "é".repeat(500))]);
        assert!(parameters.get::<usize>("k").unwrap_err().message.len() < 160);
    }

    #[cfg(feature = "json")]
    #[test]
    fn a_setting_may_be_a_list() {
        let settings = Settings::new(pairs(&[
            ("mean", "[0.5, 1, 2]"),
            ("std", "0.5"),
            ("names", r#"["a", "b"]"#),
            ("bad", "[1, true]"),
            ("cut", "[1"),
        ]));
        assert_eq!(settings.list::<f32>("mean").unwrap(), Some(vec![0.5, 1.0, 2.0]));
        assert_eq!(settings.list::<f32>("std").unwrap(), Some(vec![0.5]));
        assert_eq!(settings.list::<String>("names").unwrap(), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(settings.list::<f32>("none").unwrap(), None);
        let error = settings.list::<f32>("bad").unwrap_err();
        assert_eq!(error.message, "setting 'bad' must be a list of which each is a number: got 'true'");
        assert_eq!(settings.list::<f32>("cut").unwrap_err().code, ErrorCode::Internal);
        assert_eq!(settings.json::<Vec<String>>("names").unwrap().unwrap(), ["a", "b"]);
    }
}
