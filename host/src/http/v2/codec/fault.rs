//! Why a body is refused, before it is known which field or tensor to name.

use crate::error::Error;

/// A failure on its way up from the reader.
#[derive(Debug)]
pub(super) enum Fault {
    /// What is wrong where the reader stands; the reader's path is still to be put in front.
    Here(String),
    /// Complete: it names the tensor or the limit itself.
    Complete(Error),
}

impl Fault {
    /// The failure for the client: `path` is put in front of a message that lacks it.
    pub(super) fn into_error(self, path: &str) -> Error {
        match self {
            Self::Here(message) if path.is_empty() => Error::invalid(format!("request body: {message}")),
            Self::Here(message) => Error::invalid(format!("{path}: {message}")),
            Self::Complete(error) => error,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Complete(error)
    }
}

/// At most 40 characters of a client's text, so that a message cannot grow with the body.
pub(crate) fn shorten(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
