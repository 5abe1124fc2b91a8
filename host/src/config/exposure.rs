//! The rule that keeps an unprotected server off the network.

use super::load::Loaded;
use super::problem::Problem;
use super::report::Source;
use super::server::ServerConfig;

/// The key the rule is about.
const KEY: &str = "server.http";

impl Loaded<ServerConfig> {
    /// Refuses an address that others can reach, unless `insecure` says that this is meant: this
    /// version has no authentication.
    ///
    /// # Errors
    /// The problem, at the place that gave the address.
    pub fn check_exposure(&self) -> Result<(), Problem> {
        let config = &self.value;
        if config.insecure || config.server.http.is_loopback() {
            return Ok(());
        }
        let message = format!(
            "{} can be reached by others, and authentication is not in this version; listen on \
             127.0.0.1, or give --insecure to serve everyone who can reach it",
            config.server.http
        );
        let (file, line) = match self.report.source(KEY) {
            Some(Source::File { path, line }) => (path.as_str(), *line),
            Some(Source::Env { name } | Source::Flag { name }) => (name.as_str(), 0),
            Some(Source::Default) | None => ("default", 0),
        };
        let column = line.min(1);
        Err(Problem { line, column, key: KEY.to_owned(), ..Problem::whole(file, message) })
    }
}
