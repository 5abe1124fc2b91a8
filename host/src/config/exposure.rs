//! The rule that keeps an unprotected server off the network.

use super::address::ListenAddress;
use super::load::Loaded;
use super::problem::Problem;
use super::report::Source;
use super::server::ServerConfig;
use super::tls::ClientAuth;

impl Loaded<ServerConfig> {
    /// Refuses an address that others can reach, unless callers have to say who they are, by `auth` or by a
    /// certificate that is required of them, or `insecure` says that this is meant.
    ///
    /// # Errors
    /// The problem, at the place that gave the address.
    pub fn check_exposure(&self) -> Result<(), Problem> {
        if self.value.insecure || self.value.auth.is_configured() {
            return Ok(());
        }
        let server = &self.value.server;
        self.check_address("server.http", &server.http)?;
        let tls = &self.value.tls;
        let asks_for_certificates = tls.client_ca.is_some() && tls.client_auth == ClientAuth::Required;
        let admin = server.admin.as_ref().filter(|_| !(asks_for_certificates && tls.admin));
        let grpc = server.grpc.as_ref().filter(|_| !(asks_for_certificates && tls.grpc));
        let https = server.https.as_ref().filter(|_| !asks_for_certificates);
        for (key, address) in [("server.https", https), ("server.grpc", grpc), ("server.admin", admin)] {
            address.map_or(Ok(()), |address| self.check_address(key, address))?;
        }
        Ok(())
    }

    fn check_address(&self, key: &str, address: &ListenAddress) -> Result<(), Problem> {
        if address.is_loopback() {
            return Ok(());
        }
        let message = format!(
            "{address} can be reached by others, and nobody has to say who they are; set up 'auth', listen on \
             127.0.0.1, ask for certificates at server.https (tls.client_ca), or give --insecure to serve \
             everyone who can reach it"
        );
        let (file, line) = match self.report.source(key) {
            Some(Source::File { path, line }) => (path.as_str(), *line),
            Some(Source::Env { name } | Source::Flag { name }) => (name.as_str(), 0),
            Some(Source::Default) | None => ("default", 0),
        };
        let column = line.min(1);
        Err(Problem { line, column, key: key.to_owned(), ..Problem::whole(file, message) })
    }
}
