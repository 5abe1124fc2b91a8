//! What can go wrong with a picture.

use std::borrow::Cow;
use std::fmt;

/// Whose fault a failure is; the same four as `image-error-code` of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Neither JPEG, PNG nor WebP, or a variant of these that is not read.
    UnsupportedFormat,
    /// The bytes are damaged or cut short.
    Malformed,
    /// More pixels than allowed.
    TooLarge,
    /// An argument makes no sense.
    InvalidArgument,
}

/// A failure: whose fault, and one line that says what was expected and what came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageError {
    /// Whose fault it is.
    pub kind: ErrorKind,
    /// One line, lower-case, without a full stop.
    pub message: Cow<'static, str>,
}

impl ImageError {
    pub(crate) fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: ErrorKind::UnsupportedFormat, message: message.into() }
    }

    pub(crate) fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: ErrorKind::Malformed, message: message.into() }
    }

    pub(crate) fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: ErrorKind::TooLarge, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: ErrorKind::InvalidArgument, message: message.into() }
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ImageError {}
