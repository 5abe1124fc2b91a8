//! The log: pretty for people, JSON for machines.
//!
//! Owns the choice of form and of lines, which may change while the host serves. How they are written is `writer`'s.

use std::fmt;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload::Handle;

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
pub struct LogGuard {
    _writer: WriterGuard,
    control: LogControl,
}

impl LogGuard {
    /// What changes the log while the host serves.
    pub fn control(&self) -> LogControl {
        self.control.clone()
    }
}

type Reload = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// Changes which lines are logged. Clones change the same log.
#[derive(Clone)]
pub struct LogControl(Arc<(Reload, Mutex<String>)>);

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogControl").field(&self.filter()).finish()
    }
}

impl LogControl {
    /// The lines that are logged, as [`LogOptions::filter`].
    pub fn filter(&self) -> String {
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs other lines from now on.
    ///
    /// # Errors
    /// A filter that cannot be read; the old one stays.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        let mut current = self.0.1.lock().unwrap_or_else(PoisonError::into_inner);
        (self.0.0)(parse(filter)?)?;
        filter.clone_into(&mut current);
        Ok(())
    }
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    let directives = if filter == "off" { "off".to_owned() } else { format!("{QUIET},{filter}") };
    EnvFilter::builder().parse(directives).map_err(|error| format!("log filter '{filter}': {error}"))
}

/// Starts logging to standard error.
///
/// # Errors
/// A filter that cannot be read, or a second start in one process.
pub fn start_logging(options: &LogOptions) -> Result<LogGuard, String> {
    let filter = parse(&options.filter)?;
    let terminal = std::io::stderr().is_terminal();
    let (writer, guard) = writer::start(std::io::stderr())
        .map_err(|error| format!("the log's thread cannot be started: {error}"))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let reload = if options.json.unwrap_or(!terminal) {
        let json = subscriber.event_format(JsonLine).with_filter_reloading();
        let reload = reloader(json.reload_handle());
        json.try_init_boxed().map(|()| reload)
    } else {
        let pretty = subscriber.with_ansi(terminal).compact().with_filter_reloading();
        let reload = reloader(pretty.reload_handle());
        pretty.try_init_boxed().map(|()| reload)
    };
    let control = LogControl(Arc::new((reload?, Mutex::new(options.filter.clone()))));
    Ok(LogGuard { _writer: guard, control })
}

fn reloader<S: 'static>(handle: Handle<EnvFilter, S>) -> Reload {
    Box::new(move |filter| {
        handle.reload(filter).map_err(|error| format!("the log cannot be changed: {error}"))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_changes_nothing() {
        let log = LogControl(Arc::new((Box::new(|_| Ok(())), Mutex::new("info".to_owned()))));
        log.set("warn,access=off").unwrap();
        assert_eq!(log.filter(), "warn,access=off");
        let error = log.set("a=b=c").unwrap_err();
        assert!(error.contains("a=b=c"), "{error}");
        assert_eq!(log.filter(), "warn,access=off");
    }
}
