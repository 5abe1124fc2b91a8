//! The log: pretty for people, JSON for machines, written by a thread of its own.
//!
//! Owns the choice and the writer. A request never waits for a slow terminal or disk: lines beyond
//! the writer's buffer are dropped.

use std::io::IsTerminal as _;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that may wait for the writer.
const BUFFERED_LINES: usize = 65_536;

/// What libraries say at level info is for their own authors; a filter that names them overrides this.
const QUIET: &str = "ort=warn,wasmtime=warn,cranelift=warn";

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
pub struct LogGuard(#[allow(dead_code, reason = "held for its drop")] WorkerGuard);

/// Starts logging to standard error.
///
/// # Errors
/// A filter that cannot be read, or a second start in one process.
pub fn start_logging(options: &LogOptions) -> Result<LogGuard, String> {
    let filter = EnvFilter::builder()
        .parse(if options.filter == "off" { "off".to_owned() } else { format!("{QUIET},{}", options.filter) })
        .map_err(|error| format!("log filter '{}': {error}", options.filter))?;
    let terminal = std::io::stderr().is_terminal();
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(BUFFERED_LINES)
        .finish(std::io::stderr());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = if options.json.unwrap_or(!terminal) {
        subscriber.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init_boxed()
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
