//! `GET` and `POST /v2/logging`: which lines the log has, as Triton's clients ask for it.
//!
//! Owns the mapping between Triton's switches and the log's filter. Where and in which form the log is written is set at
//! start alone.

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::object;
use crate::config::log_filter;
use crate::error::{Error, ErrorCode, shown};
use crate::http::openapi::schemas;
use crate::http::state::AppState;
use crate::http::{body, reply};

/// Bytes that a body may have.
const BODY: usize = 4 << 10;
const FORM: &str = "{\"log_info\": true, \"log_verbose_level\": 0}, or {\"filter\": \"info,access=off\"}";

#[utoipa::path(
    get,
    path = "/v2/logging",
    tag = "admin",
    responses((status = 200, description = "answered", body = schemas::LogSettings))
)]
pub(in crate::http) async fn show(State(state): State<AppState>) -> Response {
    settings(&state)
}

/// What is not named stays as it is.
#[utoipa::path(
    post,
    path = "/v2/logging",
    tag = "admin",
    request_body(content = Option<schemas::LogChange>, content_type = "application/json"),
    responses((status = 200, description = "answered", body = schemas::LogSettings))
)]
pub(in crate::http) async fn change(
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, Error> {
    let body = body::of(request, BODY, &state).await?;
    let asked: Map<String, Value> = if body.is_empty() { Map::new() } else { object(&body, FORM)? };
    let before = state.log().filter();
    if let Some(filter) = wanted(&before, &asked)?
        && filter != before
    {
        state.log().set(&filter).map_err(Error::invalid)?;
        tracing::warn!(filter, before, "what is logged was changed by the admin interface");
    }
    Ok(settings(&state))
}

fn settings(state: &AppState) -> Response {
    let filter = state.log().filter();
    let level = Level::of(&filter);
    let body = json!({
        "log_file": "",
        "log_error": level >= Level::Error,
        "log_warning": level >= Level::Warn,
        "log_info": level >= Level::Info,
        "log_verbose_level": (level as u8).saturating_sub(Level::Info as u8),
        "log_format": "default",
        "filter": filter,
    });
    reply::ok(&body)
}

/// The general level of a filter, as Triton's switches know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Off, "off"),
        (Self::Error, "error"),
        (Self::Warn, "warn"),
        (Self::Info, "info"),
        (Self::Debug, "debug"),
        (Self::Trace, "trace"),
    ];

    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(level, _)| *level == self).map_or("info", |(_, word)| word)
    }

    /// The last word without a target counts; with targets alone, nothing else is logged.
    fn of(filter: &str) -> Self {
        let mut words =
            filter.split(',').filter_map(|word| Self::ALL.iter().find(|(_, name)| *name == word.trim()));
        words.next_back().map_or(Self::Off, |(level, _)| *level)
    }
}

/// The filter that these settings ask for; `None` if they ask for none.
fn wanted(before: &str, asked: &Map<String, Value>) -> Result<Option<String>, Error> {
    let mut level = Level::of(before);
    let (mut filter, mut switched) = (None, false);
    for (name, value) in asked {
        match name.as_str() {
            "filter" => filter = Some(text(name, value)?),
            "log_error" | "log_warning" | "log_info" => {
                let own = match name.as_str() {
                    "log_error" => Level::Error,
                    "log_warning" => Level::Warn,
                    _ => Level::Info,
                };
                level = if flag(name, value)? { level.max(own) } else { level.min(below(own)) };
                switched = true;
            }
            "log_verbose_level" => {
                level = match value.as_u64() {
                    Some(0) => level.min(Level::Info),
                    Some(1) => Level::Debug,
                    Some(_) => Level::Trace,
                    None => return Err(wrong(name, "an integer of 0 or more", value)),
                };
                switched = true;
            }
            "log_file" if value.as_str() == Some("") => {}
            "log_format" if value.as_str() == Some("default") => {}
            "log_file" | "log_format" => {
                let message = format!("'{name}' cannot be changed while the host runs; see log.format");
                return Err(Error::new(ErrorCode::Unimplemented, message));
            }
            _ => {
                let name = shown(name, 60);
                return Err(Error::invalid(format!("'{name}' is no setting of the log; expected {FORM}")));
            }
        }
    }
    match filter {
        Some(_) if switched => Err(Error::invalid("'filter' says it all: send it without the switches")),
        Some(filter) => log_filter(filter).map(Some).map_err(Error::invalid),
        None if switched => Ok(Some(with_level(before, level))),
        None => Ok(None),
    }
}

fn below(level: Level) -> Level {
    let lower = Level::ALL.iter().rev().find(|(other, _)| *other < level);
    lower.map_or(Level::Off, |(level, _)| *level)
}

/// The filter with another general level; what it says of single targets stays.
fn with_level(filter: &str, level: Level) -> String {
    let targets = filter.split(',').map(str::trim).filter(|word| word.contains('='));
    std::iter::once(level.as_str()).chain(targets).collect::<Vec<_>>().join(",")
}

fn text<'a>(name: &str, value: &'a Value) -> Result<&'a str, Error> {
    value.as_str().ok_or_else(|| wrong(name, "a text", value))
}

fn flag(name: &str, value: &Value) -> Result<bool, Error> {
    value.as_bool().ok_or_else(|| wrong(name, "true or false", value))
}

fn wrong(name: &str, expected: &str, got: &Value) -> Error {
    let got: String = got.to_string().chars().take(60).collect();
    Error::invalid(format!("'{name}': expected {expected}, got {got}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(before: &str, asked: Value) -> Result<Option<String>, Error> {
        wanted(before, asked.as_object().unwrap())
    }

    #[test]
    fn tritons_switches_move_the_level_and_leave_targets_alone() {
        for (before, asked, expected) in [
            ("info", json!({"log_verbose_level": 1}), "debug"),
            ("info,access=off", json!({"log_verbose_level": 4}), "trace,access=off"),
            ("debug,access=off", json!({"log_verbose_level": 0}), "info,access=off"),
            ("info", json!({"log_info": false}), "warn"),
            ("info", json!({"log_info": false, "log_warning": false, "log_error": false}), "off"),
            ("off", json!({"log_warning": true}), "warn"),
            ("info", json!({"filter": "warn, nuke_host::plugin=debug"}), "warn,nuke_host::plugin=debug"),
            ("warn", json!({"log_file": "", "log_format": "default", "log_info": true}), "info"),
        ] {
            assert_eq!(after(before, asked.clone()).unwrap().unwrap(), expected, "{asked}");
        }
        assert_eq!(after("info", json!({})), Ok(None));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (asked, told) in [
            (json!({"log_info": "yes"}), "'log_info': expected true or false, got \"yes\""),
            (json!({"log_verbose_level": -1}), "'log_verbose_level'"),
            (json!({"log_file": "/etc/passwd"}), "'log_file' cannot be changed"),
            (json!({"log_format": "ISO8601"}), "'log_format' cannot be changed"),
            (json!({"nonsense": 1}), "'nonsense' is no setting"),
            (json!({"filter": "inf"}), "did you mean 'info'"),
            (json!({"filter": "info[{x=/(a+)+$/}]"}), "expected a level"),
            (json!({"filter": "info", "log_info": true}), "without the switches"),
        ] {
            let error = after("info", asked.clone()).unwrap_err();
            assert!(error.message.contains(told), "{asked}: {error}");
        }
    }
}
