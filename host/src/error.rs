//! What can go wrong on behalf of a request, in one vocabulary.
//!
//! Owns [`ErrorCode`] and [`Error`], and in which form a stranger's text is part of one. It never knows a protocol: the
//! one place where a code becomes a status, of HTTP or of gRPC, is `http::reply`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// Whose fault a failure is. Each code has one HTTP status and one gRPC status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request is malformed, or does not fit the model.
    InvalidArgument,
    /// No model, version, route or file of that name.
    NotFound,
    /// It is not known who asks, or what was shown is not valid.
    Unauthenticated,
    /// Who asks may not do this, or not at this address.
    PermissionDenied,
    /// What is asked for does not go with how things stand.
    Conflict,
    /// The route exists, but not for this method.
    MethodNotAllowed,
    /// The body, or what it expands to, is over a limit.
    PayloadTooLarge,
    /// Path and headers are over a limit.
    HeadersTooLarge,
    /// The client took too long to send its request.
    RequestTimeout,
    /// The plugin does not read this media type.
    UnsupportedMediaType,
    /// A queue or a pool is full; the request was not started.
    ResourceExhausted,
    /// The request's time ran out.
    DeadlineExceeded,
    /// The client takes a remembered answer only, and there is none.
    NotCached,
    /// The client went away before it had its answer.
    Cancelled,
    /// The plugin trapped, ran over a limit, or answered nonsense.
    PluginFault,
    /// The model or the server cannot answer now.
    Unavailable,
    /// The protocol has this, the server does not.
    Unimplemented,
    /// A fault of the server or of the model's runtime.
    Internal,
}

impl ErrorCode {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::InvalidArgument,
        Self::NotFound,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::Conflict,
        Self::MethodNotAllowed,
        Self::PayloadTooLarge,
        Self::HeadersTooLarge,
        Self::RequestTimeout,
        Self::UnsupportedMediaType,
        Self::ResourceExhausted,
        Self::DeadlineExceeded,
        Self::NotCached,
        Self::Cancelled,
        Self::PluginFault,
        Self::Unavailable,
        Self::Unimplemented,
        Self::Internal,
    ];

    /// The code's name in logs, metrics and error details.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::NotFound => "not_found",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::Conflict => "conflict",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::PayloadTooLarge => "payload_too_large",
            Self::HeadersTooLarge => "headers_too_large",
            Self::RequestTimeout => "request_timeout",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::ResourceExhausted => "resource_exhausted",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::NotCached => "not_cached",
            Self::Cancelled => "cancelled",
            Self::PluginFault => "plugin_fault",
            Self::Unavailable => "unavailable",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
        }
    }
}

/// A failure of one request: a code, one line for the client, and named details.
///
/// The message is lower-case without a full stop; it names the object at fault, what was expected
/// and what came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// Whose fault it is.
    pub code: ErrorCode,
    /// One line for the client.
    pub message: Cow<'static, str>,
    /// More, by name: a plugin's backtrace, its captured output.
    pub details: Vec<(String, String)>,
    /// After which time the same request may be answered, where that is known.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// A failure without details.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), details: Vec::new(), retry_after: None }
    }

    /// The request is malformed, or does not fit the model.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    /// A fault of the server or of the model's runtime.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds one named detail.
    #[must_use]
    pub fn with_detail(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.details.push((name.into(), value.into()));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What a message shows of a text that somebody else wrote: at most so many characters of it, escaped, so that it stays
/// one line.
pub fn shown(text: &str, most: usize) -> String {
    text.chars().take(most).flat_map(char::escape_default).collect()
}
