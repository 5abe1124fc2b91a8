//! From an error to a gRPC status, and from tonic's own refusals to errors.
//!
//! Owns what of an error a client of gRPC sees: code and text as on HTTP, the code's own name, when to try again.
//! Which code is which status is `http::reply`'s.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::error::{Error, ErrorCode};
use crate::http::access::Served;
use crate::http::body::too_large;
use crate::http::reply::{passes, statuses_of};
use crate::http::serving::Marks;

/// The error's own code, as in the body of an error on HTTP. Its presence says that a status is the host's.
const CODE: &str = "nuke-code";
/// How many milliseconds to wait before the next try, as gRPC's clients read it.
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// Bytes of a text that a client's limit on metadata leaves room for, escaped as it will be.
const LONGEST: usize = 2048;

/// What made a status, for the access log.
#[derive(Debug)]
pub(super) struct Made(Option<Served>);

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error of the host")
    }
}

impl std::error::Error for Made {}

/// The status of an error.
pub(super) fn status(error: &Error, marks: Option<&Marks>) -> Status {
    let mut headers = HeaderMap::new();
    if let Some(marks) = marks {
        headers.extend(marks.headers());
    }
    headers.insert(CODE, http::HeaderValue::from_static(error.code.as_str()));
    if passes(error.code) {
        let wait = error.retry_after.unwrap_or(Duration::from_secs(1));
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        headers.insert(PUSHBACK, http::HeaderValue::from(wait));
    }
    headers.extend(error.challenge().map(|value| (http::header::WWW_AUTHENTICATE, value)));
    let message = &error.message[..error.message.floor_char_boundary(LONGEST)];
    let code = statuses_of(error.code).1;
    let mut status = Status::with_metadata(code, message, MetadataMap::from_headers(headers));
    status.set_source(Arc::new(Made(marks.map(|marks| marks.served.clone()))));
    status
}

/// Which model's version failed, if one did.
pub(super) fn served(status: &Status) -> Option<&Served> {
    let made = std::error::Error::source(status)?.downcast_ref::<Made>()?;
    made.0.as_ref()
}

/// The host's own error of a status, if it is one.
pub(super) fn own(status: &Status) -> Option<Error> {
    let name = status.metadata().get(CODE)?.to_str().ok()?;
    let code = ErrorCode::ALL.into_iter().find(|code| code.as_str() == name)?;
    Some(Error::new(code, status.message().to_owned()))
}

/// What a status of tonic's says in the host's words; `limit` is that of messages, in bytes.
pub(super) fn translate(status: &Status, limit: usize) -> Error {
    if let Some(error) = own(status) {
        return error;
    }
    let message = status.message();
    match status.code() {
        // The length that a message says it has, and that to which it expands.
        Code::OutOfRange | Code::ResourceExhausted => too_large(limit),
        Code::Unimplemented => Error::new(
            ErrorCode::Unimplemented,
            "grpc-encoding names what this host does not read; send messages as they are, or by gzip or zstd",
        ),
        Code::Cancelled => Error::new(ErrorCode::Cancelled, "the client took its call back"),
        Code::DeadlineExceeded => Error::new(ErrorCode::DeadlineExceeded, message.to_owned()),
        Code::Internal => Error::invalid(format!("the message cannot be read: {message}")),
        _ => Error::invalid(format!("the call broke off: {message}")),
    }
}

/// The name of a status, as gRPC's documents spell it.
pub(super) const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_the_errors_code_and_text_and_gives_them_back() {
        for code in ErrorCode::ALL {
            let error = Error::new(code, "model 'm' is not ready: ü");
            let found = status(&error, None);
            assert_eq!(found.code(), statuses_of(code).1);
            assert_eq!(found.message(), error.message);
            assert_eq!(own(&found), Some(error.clone()));
            // As tonic makes it anew from an error's sources: without them.
            let copied = Status::with_metadata(found.code(), found.message(), found.metadata().clone());
            assert_eq!(translate(&copied, 1), error);
        }
        let busy = status(&Error::new(ErrorCode::ResourceExhausted, "full"), None);
        assert_eq!(busy.metadata().get(PUSHBACK).unwrap(), "1000");
    }

    #[test]
    fn no_text_is_longer_than_metadata_may_be() {
        let long = Error::invalid("ü".repeat(LONGEST));
        assert!(status(&long, None).message().len() <= LONGEST);
    }

    #[test]
    fn tonics_own_refusals_get_the_hosts_words() {
        let large = translate(&Status::out_of_range("decoded message length too large"), 7);
        assert_eq!(large, too_large(7));
        assert_eq!(translate(&Status::internal("protocol error"), 7).code, ErrorCode::InvalidArgument);
        assert_eq!(translate(&Status::unknown("?"), 7).code, ErrorCode::InvalidArgument);
    }
}
