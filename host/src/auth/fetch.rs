//! Asking a URL for a set of keys.
//!
//! Owns the one exchange: GET, no redirects, a bounded answer, a deadline over all of it. Certificates are checked
//! against those that the system trusts (`SSL_CERT_FILE` names others).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::jwks::LARGEST;

/// How long the whole exchange may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came back.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) text: Bytes,
    /// For how long the answer says that it holds.
    pub(super) max_age: Option<Duration>,
}

/// Asks once.
///
/// # Errors
/// Why there is no answer, or none that counts.
pub(super) async fn fetch(url: &Uri) -> Result<Fetched, String> {
    let asking = async {
        let host = url.host().ok_or("the URL names no host")?.trim_matches(['[', ']']).to_owned();
        let is_https = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let tcp = TcpStream::connect((host.as_str(), port)).await;
        let tcp = tcp.map_err(|error| format!("cannot connect: {error}"))?;
        if !is_https {
            return exchange(tcp, url).await;
        }
        let name =
            ServerName::try_from(host).map_err(|_| "the URL's host is no name of a server".to_owned())?;
        // The system's certificates are files.
        let client = tokio::task::spawn_blocking(|| TRUST.get(make_client)).await;
        let client = client.map_err(|error| format!("TLS cannot be set up: {error}"))??;
        let tls = TlsConnector::from(client).connect(name, tcp).await;
        let tls = tls.map_err(|error| {
            TRUST.forget();
            format!("no TLS connection: {error}")
        });
        exchange(tls?, url).await
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(fetched) => fetched,
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

async fn exchange(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    url: &Uri,
) -> Result<Fetched, String> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(io)).await;
    let (mut sender, connection) = handshake.map_err(|error| format!("no HTTP connection: {error}"))?;
    // It ends with the sender, at the end of this function or of its deadline.
    let driver = AbortOnDrop(tokio::spawn(connection));
    let path = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let host = url.authority().map_or("", http::uri::Authority::as_str);
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(header::USER_AGENT, concat!("nuke/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("the URL makes no request: {error}"))?;
    let answer = sender.send_request(request).await.map_err(|error| format!("no answer: {error}"))?;
    if answer.status() != StatusCode::OK {
        return Err(format!("the answer is {}, expected 200", answer.status().as_u16()));
    }
    let max_age = max_age(answer.headers());
    let body = Limited::new(answer.into_body(), LARGEST).collect().await;
    let text = body.map_err(|_| format!("the answer broke off, or has over {LARGEST} bytes"))?.to_bytes();
    drop(driver);
    Ok(Fetched { text, max_age })
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let said = headers.get(header::CACHE_CONTROL)?.to_str().ok()?;
    let mut directives = said.split(',').map(|directive| directive.trim().to_ascii_lowercase());
    if directives.clone().any(|directive| directive == "no-store" || directive == "no-cache") {
        return Some(Duration::ZERO);
    }
    let seconds = directives.find_map(|directive| directive.strip_prefix("max-age=")?.parse().ok())?;
    Some(Duration::from_secs(seconds))
}

/// What is made of the system's certificates. It is kept, unless it could not be made or a server was not believed: the
/// file may be there, or be another, the next time.
#[derive(Debug, Default)]
struct Trust(Mutex<Option<Arc<ClientConfig>>>);

static TRUST: Trust = Trust(Mutex::new(None));

impl Trust {
    fn get(
        &self,
        make: impl FnOnce() -> Result<Arc<ClientConfig>, String>,
    ) -> Result<Arc<ClientConfig>, String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*kept {
            return Ok(Arc::clone(client));
        }
        let made = make()?;
        *kept = Some(Arc::clone(&made));
        Ok(made)
    }

    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn make_client() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err("this machine has no certificates that it trusts; SSL_CERT_FILE can name some".to_owned());
    }
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| format!("TLS cannot be set up: {error}"))?;
    Ok(Arc::new(versions.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_made_of_the_systems_certificates_is_made_anew() {
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let client =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let (trust, client) = (Trust::default(), Arc::new(client));
        let never = || Err::<Arc<ClientConfig>, _>("none".to_owned());
        assert!(trust.get(never).is_err());
        assert!(trust.get(|| Ok(Arc::clone(&client))).is_ok());
        assert!(Arc::ptr_eq(&trust.get(never).unwrap(), &client), "it is kept");
        trust.forget();
        assert!(trust.get(never).is_err());
    }

    #[test]
    fn an_answers_age_is_read() {
        let age = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, text.parse().unwrap());
            max_age(&headers).map(|age| age.as_secs())
        };
        assert_eq!(age("public, Max-Age=300"), Some(300));
        assert_eq!(age("no-store, max-age=300"), Some(0));
        for text in ["", "public", "max-age=", "max-age=-1", "max-age=x", "max-age=99999999999999999999"] {
            assert_eq!(age(text), None, "{text}");
        }
    }
}
