//! What is settled of a request before a router sees it.
//!
//! Owns how such an outcome travels: as an extension of the request, so that it is answered where every other request
//! is, in its protocol's form, by its name, in the access log and with what pages of other origins need to read it.

use axum::response::{IntoResponse as _, Response};
use http::{Extensions, HeaderValue, StatusCode, header};

use crate::error::Error;

/// In the extensions of a request that no handler is to see.
#[derive(Clone, Debug)]
pub(crate) enum Settled {
    /// It is not let in.
    Refused(Error),
    /// It is to be asked for there, with the same method and body.
    Elsewhere(HeaderValue),
}

impl Settled {
    /// Leaves word for the router; what was settled first stays.
    pub(in crate::http) fn leave(self, extensions: &mut Extensions) {
        if extensions.get::<Self>().is_none() {
            extensions.insert(self);
        }
    }

    /// What was settled, if anything was.
    pub(crate) fn take(extensions: &mut Extensions) -> Option<Self> {
        extensions.remove()
    }

    /// As an answer of HTTP.
    pub(in crate::http) fn answer(self) -> Response {
        match self {
            Self::Refused(error) => error.into_response(),
            Self::Elsewhere(location) => {
                (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, location)]).into_response()
            }
        }
    }

    /// As an error, for a protocol that cannot be sent elsewhere.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Elsewhere(location) => {
                let location = location.to_str().unwrap_or("https://").to_owned();
                Error::invalid(format!("calls are answered over TLS alone, at {location}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_settled_first_stays_and_is_answered_once() {
        let mut extensions = Extensions::new();
        Settled::Refused(Error::invalid("first")).leave(&mut extensions);
        Settled::Elsewhere(HeaderValue::from_static("https://h/")).leave(&mut extensions);
        let found = Settled::take(&mut extensions).unwrap();
        assert_eq!(found.clone().into_error().message, "first");
        assert_eq!(found.answer().status(), 400);
        assert!(Settled::take(&mut extensions).is_none());
        let moved = Settled::Elsewhere(HeaderValue::from_static("https://h:8443/a"));
        assert!(moved.clone().into_error().message.contains("https://h:8443/a"));
        assert_eq!(moved.answer().headers()[header::LOCATION], "https://h:8443/a");
    }
}
