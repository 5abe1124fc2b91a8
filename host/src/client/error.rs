//! Why a command could not show an answer, and the exit code that says so.
//!
//! Owns [`ClientError`] and how the host's own `{"error": …}` becomes one. It never decides what to
//! print where: the commands do.

use std::fmt::Write as _;
use std::process::ExitCode;

use http::StatusCode;
use serde_json::Value;

use super::text;

/// How much of an answer that is no JSON is quoted, in characters.
const QUOTED_CHARACTERS: usize = 500;

/// Why a command could not show an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The arguments, or a file they name, make no sense.
    #[error("{0}")]
    Usage(String),
    /// Nobody listens, or the name has no address.
    #[error(
        "cannot reach {url}: {reason}; is the host running there? start it with `nuke serve`, or name another with --url"
    )]
    Unreachable {
        /// The host's URL.
        url: String,
        /// What the system said.
        reason: String,
    },
    /// The connection was made, but no whole answer came.
    #[error("no answer from {url}: {reason}")]
    NoAnswer {
        /// The host's URL.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The host answered, with an error.
    #[error("{}", show_refusal(*status, message, details))]
    Refused {
        /// The answer's status.
        status: StatusCode,
        /// The host's own words, safe for a terminal.
        message: String,
        /// What else it said, by name, safe for a terminal.
        details: Vec<(String, String)>,
    },
    /// The host answered something that the protocol does not allow.
    #[error("{0}")]
    Nonsense(String),
}

impl ClientError {
    /// 1 if the host answered, 2 if there is no answer.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Refused { .. } | Self::Nonsense(_) => ExitCode::from(1),
            Self::Usage(_) | Self::Unreachable { .. } | Self::NoAnswer { .. } => ExitCode::from(2),
        }
    }

    /// Reads the host's error out of an answer that is no success.
    pub(super) fn from_answer(status: StatusCode, body: &[u8]) -> Self {
        let Ok(Value::Object(mut fields)) = serde_json::from_slice::<Value>(body) else {
            return Self::Refused { status, message: quote(body), details: Vec::new() };
        };
        let message = match fields.remove("error") {
            Some(Value::String(message)) => text::printable(&message),
            Some(other) => text::printable(&other.to_string()),
            None => return Self::Refused { status, message: quote(body), details: Vec::new() },
        };
        let mut details = Vec::new();
        for (name, value) in fields {
            collect_details(&name, value, &mut details);
        }
        Self::Refused { status, message, details }
    }
}

/// A map or a list of pairs becomes one detail for each; anything else is one detail.
fn collect_details(name: &str, value: Value, details: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            details.extend(fields.into_iter().map(|(name, value)| (text::one_line(&name), plain(&value))));
        }
        Value::Array(items) => {
            for item in items {
                match item.as_array().map(Vec::as_slice) {
                    Some([Value::String(pair_name), pair_value]) => {
                        details.push((text::one_line(pair_name), plain(pair_value)));
                    }
                    _ => details.push((text::one_line(name), plain(&item))),
                }
            }
        }
        other => details.push((text::one_line(name), plain(&other))),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(string) => text::printable(string),
        other => text::printable(&other.to_string()),
    }
}

fn quote(body: &[u8]) -> String {
    let shown = text::shorten(&text::printable(&String::from_utf8_lossy(body)), QUOTED_CHARACTERS);
    if shown.trim().is_empty() { "(no body)".to_owned() } else { shown.trim().to_owned() }
}

fn show_refusal(status: StatusCode, message: &str, details: &[(String, String)]) -> String {
    let mut shown = format!("{message} (HTTP {status})");
    for (name, value) in details {
        let indented = value.trim_end().replace('\n', "\n    ");
        let separator = if indented.contains('\n') { "\n    " } else { " " };
        let _ = write!(shown, "\n  {name}:{separator}{indented}");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_message_and_its_details_are_shown() {
        let body =
            br#"{"error":"no model 'x'","details":{"have":"digits","trace":"one\ntwo"},"code":"not_found"}"#;
        let error = ClientError::from_answer(StatusCode::NOT_FOUND, body);
        assert_eq!(
            error.to_string(),
            "no model 'x' (HTTP 404 Not Found)\n  code: not_found\n  have: digits\n  trace:\n    one\n    two"
        );
        assert_eq!(format!("{:?}", error.exit_code()), format!("{:?}", ExitCode::from(1)));
    }

    #[test]
    fn details_as_pairs_and_as_plain_values_are_shown() {
        let body = br#"{"error":"no","details":[["a","1"],["b",2],3]}"#;
        let shown = ClientError::from_answer(StatusCode::BAD_REQUEST, body).to_string();
        assert_eq!(shown, "no (HTTP 400 Bad Request)\n  a: 1\n  b: 2\n  details: 3");
    }

    #[test]
    fn an_answer_that_is_no_json_is_quoted_without_its_control_characters() {
        let long = format!("\u{1b}[31mdown{}", "x".repeat(2000));
        let shown = ClientError::from_answer(StatusCode::BAD_GATEWAY, long.as_bytes()).to_string();
        assert!(!shown.contains('\u{1b}') && shown.len() < 700, "{shown}");
        assert!(shown.ends_with("(HTTP 502 Bad Gateway)"), "{shown}");
        let empty = ClientError::from_answer(StatusCode::SERVICE_UNAVAILABLE, b"");
        assert_eq!(empty.to_string(), "(no body) (HTTP 503 Service Unavailable)");
    }

    #[test]
    fn nobody_listening_names_the_url_and_the_remedy() {
        let error =
            ClientError::Unreachable { url: "http://h:1".into(), reason: "connection refused".into() };
        let shown = error.to_string();
        assert!(
            shown.contains("http://h:1") && shown.contains("nuke serve") && shown.contains("--url"),
            "{shown}"
        );
        assert_eq!(format!("{:?}", error.exit_code()), format!("{:?}", ExitCode::from(2)));
    }
}
