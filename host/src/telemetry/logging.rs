//! The log: pretty for people, JSON for machines.
//!
//! Owns the choice of form and of lines. How they are written is `writer`'s.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use super::json_line::JsonLine;
use super::writer::{self, WriterGuard};

/// What libraries say at level info is for their own authors; a filter that names them overrides this.
const QUIET: &str = "ort=off,wasmtime=warn,cranelift=warn";

/// How to log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// `Some(true)` for JSON, `Some(false)` for pretty; `None` for pretty on a terminal, else JSON.
    pub json: Option<bool>,
    /// Which lines, in `tracing`'s directives: `info`, `info,access=off`, `nuke_host=debug`.
    pub filter: String,
}

/// Keeps the writer alive; dropped, it writes out what is left.
#[derive(Debug)]
pub struct LogGuard(#[allow(dead_code, reason = "held for its drop")] WriterGuard);

/// Starts logging to standard error.
///
/// # Errors
/// A filter that cannot be read, or a second start in one process.
pub fn start_logging(options: &LogOptions) -> Result<LogGuard, String> {
    let filter = EnvFilter::builder()
        .parse(if options.filter == "off" { "off".to_owned() } else { format!("{QUIET},{}", options.filter) })
        .map_err(|error| format!("log filter '{}': {error}", options.filter))?;
    let terminal = std::io::stderr().is_terminal();
    let (writer, guard) = writer::start(std::io::stderr())
        .map_err(|error| format!("the log's thread cannot be started: {error}"))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = if options.json.unwrap_or(!terminal) {
        subscriber.event_format(JsonLine).try_init_boxed()
    } else {
        subscriber.with_ansi(terminal).compact().try_init_boxed()
    };
    started.map(|()| LogGuard(guard))
}

/// `try_init` of either format, with its error as text.
trait TryInitBoxed {
    fn try_init_boxed(self) -> Result<(), String>;
}

impl<N, E, F, W> TryInitBoxed for tracing_subscriber::fmt::SubscriberBuilder<N, E, F, W>
where
    Self: Into<tracing::Dispatch>,
{
    fn try_init_boxed(self) -> Result<(), String> {
        tracing::dispatcher::set_global_default(self.into()).map_err(|error| error.to_string())
    }
}
