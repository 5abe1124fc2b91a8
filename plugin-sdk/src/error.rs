//! How a plugin says that something went wrong, and whose fault it is.

use std::fmt::{self, Display};

/// Whose fault an error is, which decides the status that the client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request cannot be understood or is out of range (HTTP 400).
    InvalidInput,
    /// The body is of a media type that this plugin does not read (HTTP 415).
    UnsupportedMediaType,
    /// The request asks for more than the plugin is willing to do (HTTP 413).
    TooLarge,
    /// What was asked for does not exist (HTTP 404).
    NotFound,
    /// The plugin cannot answer for now; trying later may help (HTTP 503).
    Unavailable,
    /// The plugin, or its bundle, is at fault (HTTP 500).
    Internal,
}

/// A failure that is reported in order: the instance lives on, and the client sees the message.
///
/// Any [`std::error::Error`] becomes one by `?`, as [`ErrorCode::Internal`]. Where the request is at
/// fault, say so: [`Error::invalid`], [`ResultExt::or_invalid`], [`ensure!`](crate::ensure).
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    /// Whose fault it is.
    pub code: ErrorCode,
    /// One line for the client that names the thing at fault and the remedy.
    pub message: String,
    /// More, by name, shown to the client beside the message.
    pub details: Vec<(String, String)>,
}

/// What a plugin's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of any code.
    pub fn new(code: ErrorCode, message: impl Display) -> Self {
        Self { code, message: message.to_string(), details: Vec::new() }
    }

    /// The request cannot be understood or is out of range.
    pub fn invalid(message: impl Display) -> Self {
        Self::new(ErrorCode::InvalidInput, message)
    }

    /// The body is of a media type that this plugin does not read.
    pub fn unsupported_media_type(message: impl Display) -> Self {
        Self::new(ErrorCode::UnsupportedMediaType, message)
    }

    /// The request asks for more than the plugin is willing to do.
    pub fn too_large(message: impl Display) -> Self {
        Self::new(ErrorCode::TooLarge, message)
    }

    /// What was asked for does not exist.
    pub fn not_found(message: impl Display) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// The plugin cannot answer for now.
    pub fn unavailable(message: impl Display) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }

    /// The plugin, or its bundle, is at fault.
    pub fn internal(message: impl Display) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// Adds one named detail.
    #[must_use]
    pub fn with_detail(mut self, name: impl Into<String>, value: impl Display) -> Self {
        self.details.push((name.into(), value.to_string()));
        self
    }

    /// Puts what was being done before the message; the code stays.
    #[must_use]
    pub fn context(mut self, doing: impl Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)?;
        self.details.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

// `Error` is no `std::error::Error` itself, which is what makes room for this.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self::internal(message)
    }
}

/// Says what was being done, or whose fault it is, on the way up.
pub trait ResultExt<T> {
    /// Puts what was being done before the message. `None` becomes an internal error of just that.
    ///
    /// # Errors
    /// The one that came, with more words.
    fn context(self, doing: impl Display) -> Result<T>;

    /// Like [`ResultExt::context`], and lays the fault on the request.
    ///
    /// # Errors
    /// The one that came, as [`ErrorCode::InvalidInput`].
    fn or_invalid(self, doing: impl Display) -> Result<T>;
}

impl<T, E: Into<Error>> ResultExt<T> for std::result::Result<T, E> {
    fn context(self, doing: impl Display) -> Result<T> {
        self.map_err(|error| error.into().context(doing))
    }

    fn or_invalid(self, doing: impl Display) -> Result<T> {
        self.map_err(|error| Error { code: ErrorCode::InvalidInput, ..error.into().context(doing) })
    }
}

impl<T> ResultExt<T> for Option<T> {
    fn context(self, doing: impl Display) -> Result<T> {
        self.ok_or_else(|| Error::internal(doing))
    }

    fn or_invalid(self, doing: impl Display) -> Result<T> {
        self.ok_or_else(|| Error::invalid(doing))
    }
}

/// Returns an error unless a condition holds: `ensure!(condition, kind, "message {}", …)`, where
/// `kind` is one of [`Error`]'s constructors: `invalid`, `too_large`, `internal` …
///
/// ```
/// use nuke_plugin_sdk::{Result, ensure};
///
/// fn check(text: &str) -> Result<()> {
///     ensure!(!text.is_empty(), invalid, "the text is empty: send at least one word");
///     ensure!(text.len() < 1000, too_large, "the text has {} bytes, at most 999 are read", text.len());
///     Ok(())
/// }
/// assert_eq!(check("").unwrap_err().to_string(), "the text is empty: send at least one word");
/// ```
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $kind:ident, $($message:tt)+) => {
        if !$condition {
            $crate::bail!($kind, $($message)+);
        }
    };
}

/// Returns an error: `bail!(kind, "message {}", …)`; see [`ensure!`].
#[macro_export]
macro_rules! bail {
    ($kind:ident, $($message:tt)+) => {
        return ::core::result::Result::Err($crate::Error::$kind(::std::format!($($message)+)))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_error_is_internal_until_said_otherwise() {
        fn parse(text: &str) -> Result<u32> {
            Ok(text.parse::<u32>()?)
        }
        assert_eq!(parse("x").unwrap_err().code, ErrorCode::Internal);
        let error = "x".parse::<u32>().or_invalid("the header 'n'").unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidInput);
        assert_eq!(error.message, "the header 'n': invalid digit found in string");
    }

    #[test]
    fn context_keeps_code_and_details() {
        let failed: Result<()> = Err(Error::too_large("17 bytes").with_detail("limit", 16));
        let error = failed.context("reading the body").unwrap_err();
        assert_eq!(format!("{error:?}"), "TooLarge: reading the body: 17 bytes limit=16");
        assert_eq!(None::<u8>.context("no labels").unwrap_err().code, ErrorCode::Internal);
    }
}
