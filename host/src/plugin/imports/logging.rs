//! Capability `logging`: a guest's lines in the host's log.
//!
//! Owns the budget of a call. It never lets a guest write an unbounded line, or forge another one:
//! control characters are escaped.

use crate::plugin::bindings::nuke::plugin::logging::{Host, Level};
use crate::plugin::instance::InstanceState;

/// The bytes of log lines that a call has left.
#[derive(Debug)]
pub(in crate::plugin) struct LogBudget {
    limit: usize,
    left: usize,
    dropped: u64,
    last_error: Option<String>,
}

impl LogBudget {
    pub(in crate::plugin) fn new(limit: usize) -> Self {
        Self { limit, left: limit, dropped: 0, last_error: None }
    }

    /// A new call begins.
    pub(in crate::plugin) fn refill(&mut self) {
        self.left = self.limit;
        self.dropped = 0;
        self.last_error = None;
    }

    /// Lines of this call that did not fit.
    pub(in crate::plugin) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The last line at level error: where a guest's SDK reports a panic before it traps.
    pub(in crate::plugin) fn take_last_error(&mut self) -> Option<String> {
        self.last_error.take()
    }

    fn take(&mut self, bytes: usize) -> bool {
        if bytes > self.left {
            self.dropped += 1;
            return false;
        }
        self.left -= bytes;
        true
    }
}

impl Host for InstanceState {
    fn log(&mut self, level: Level, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        let size = fields.iter().fold(message.len(), |sum, (name, value)| sum + name.len() + value.len());
        if !self.log.take(size.saturating_add(1)) {
            return Ok(());
        }
        let message = escape(&message);
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        let (model, version, plugin) = (&self.bundle.model, &self.bundle.version, &self.bundle.plugin);
        let fields = fields.join(" ");
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(target: "plugin", %model, %version, %plugin, fields, "{message}")
            };
        }
        match level {
            Level::Trace => line!(trace),
            Level::Debug => line!(debug),
            Level::Info => line!(info),
            Level::Warn => line!(warn),
            Level::Error => line!(error),
        }
        if level == Level::Error {
            self.log.last_error = Some(message);
        }
        Ok(())
    }
}

fn escape(text: &str) -> String {
    if text.chars().any(char::is_control) { text.escape_debug().to_string() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_forge_another() {
        assert_eq!(escape("a\nERROR b\u{1b}[31m"), "a\\nERROR b\\u{1b}[31m");
        assert_eq!(escape("schön"), "schön");
    }

    #[test]
    fn lines_over_the_budget_are_counted() {
        let mut budget = LogBudget::new(10);
        assert!(budget.take(8));
        assert!(!budget.take(3));
        assert_eq!(budget.dropped(), 1);
        budget.refill();
        assert!(budget.take(3));
    }
}
