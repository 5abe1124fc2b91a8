//! One request to a package index, over TLS.
//!
//! Owns connecting: directly or by a proxy, with the certificates that the system or pip's settings trust, and
//! following an answer that leads elsewhere. Whom to trust for the content is not decided here: that is
//! pinned.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue, LOCATION, RANGE, USER_AGENT};
use http::{Request, Response, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::error::InstallError;
use super::settings::{Registry, without_secret};

/// How long connecting, and waiting for an answer to begin, may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often an answer may lead elsewhere.
const MOST_REDIRECTS: usize = 5;
/// Bytes of a proxy's answer.
const PROXY_ANSWER: usize = 8 << 10;

/// Asks package indexes.
pub(super) struct Client {
    registry: Registry,
    tls: TlsConnector,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Client {
    /// Reads the certificates.
    ///
    /// # Errors
    /// [`InstallError::Certificates`].
    pub(super) fn new(registry: Registry) -> Result<Self, InstallError> {
        let unusable = InstallError::Certificates;
        let mut roots = RootCertStore::empty();
        if let Some(file) = &registry.certificates {
            let read = CertificateDer::pem_file_iter(file);
            let read = read.map_err(|error| unusable(format!("{}: {error}", file.display())))?;
            roots.add_parsable_certificates(read.flatten());
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if roots.is_empty() && registry.index.starts_with("https") {
            return Err(unusable("the system has none".to_owned()));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { registry, tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Where packages come from.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Asks for `address`, from byte `from` on if that is not 0, and follows where it leads. The body is still
    /// to be read.
    ///
    /// # Errors
    /// Why there is no answer, in words. One that tells of a failure is an answer.
    pub(super) async fn get(
        &self,
        address: &str,
        accept: &str,
        from: u64,
    ) -> Result<Response<Incoming>, String> {
        let mut address = address.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            let answer = tokio::time::timeout(PATIENCE, self.ask(&address, accept, from)).await;
            let answer = answer.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))??;
            let target = answer.headers().get(LOCATION).filter(|_| answer.status().is_redirection());
            let Some(target) = target.and_then(|target| target.to_str().ok()) else {
                return Ok(answer);
            };
            let next = join(&address, target);
            if address.starts_with("https://") && !next.starts_with("https://") {
                return Err(format!("it leads to {}, which is not encrypted", without_secret(&next)));
            }
            address = next;
        }
        Err(format!("it leads elsewhere more than {MOST_REDIRECTS} times"))
    }

    async fn ask(&self, address: &str, accept: &str, from: u64) -> Result<Response<Incoming>, String> {
        let address = address.split('#').next().unwrap_or(address);
        let (bare, secret) = (without_secret(address), secret_of(address));
        let uri: Uri = bare.parse().map_err(|error| format!("it is no address: {error}"))?;
        let host = uri.host().ok_or("it names no host")?.to_owned();
        let stream = self.connect(&uri, &host).await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = uri.authority().map_or(host.as_str(), |authority| authority.as_str());
        let mut request = Request::get(path)
            .header(HOST, authority)
            .header(USER_AGENT, concat!("nuke/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, accept);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        if let Some(secret) = secret {
            request = request.header(AUTHORIZATION, basic(&secret)?);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        sender.send_request(request).await.map_err(|error| error.to_string())
    }

    async fn connect(&self, uri: &Uri, host: &str) -> Result<Box<dyn Stream>, String> {
        let encrypted = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        // An address without encryption is one of this network: no proxy helps there.
        let stream = match self.registry.proxy_for(host).filter(|_| encrypted) {
            Some(proxy) => tunnel(proxy, host, port).await?,
            None => dial(host, port).await?,
        };
        if !encrypted {
            return Ok(Box::new(stream));
        }
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
        Ok(Box::new(stream))
    }
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    TcpStream::connect((host, port)).await.map_err(|error| error.to_string())
}

/// A connection to `host` through a proxy.
async fn tunnel(proxy: &str, host: &str, port: u16) -> Result<TcpStream, String> {
    let failed = |reason: String| format!("by the proxy {}: {reason}", without_secret(proxy));
    let bare = without_secret(proxy);
    let bare = bare.strip_prefix("http://").unwrap_or(&bare).trim_end_matches('/');
    let uri: Uri =
        bare.parse().map_err(|_| failed("expected an address like http://proxy:3128".to_owned()))?;
    let at = uri.host().filter(|_| !bare.contains("://"));
    let at = at.ok_or_else(|| failed("expected an address like http://proxy:3128".to_owned()))?;
    let mut stream = dial(at, uri.port_u16().unwrap_or(3128)).await.map_err(failed)?;
    let mut head = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some(secret) = secret_of(proxy) {
        let value = basic(&secret)?;
        head.push_str(&format!("Proxy-Authorization: {}\r\n", value.to_str().unwrap_or_default()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.map_err(|error| failed(error.to_string()))?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() > PROXY_ANSWER {
            return Err(failed("its answer does not end".to_owned()));
        }
        answer.push(stream.read_u8().await.map_err(|error| failed(error.to_string()))?);
    }
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some("200") => Ok(stream),
        _ => Err(failed(format!("it says '{line}'"))),
    }
}

/// The name and password at the head of an address.
fn secret_of(address: &str) -> Option<String> {
    let (_, rest) = address.split_once("://")?;
    let authority = rest.split('/').next()?;
    let (secret, _) = authority.rsplit_once('@')?;
    Some(percent_encoding::percent_decode_str(secret).decode_utf8_lossy().into_owned())
}

/// The header of RFC 7617.
fn basic(secret: &str) -> Result<HeaderValue, String> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = "Basic ".to_owned();
    for chunk in secret.as_bytes().chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4_usize {
            let letter = LETTERS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    let mut value = HeaderValue::from_str(&text).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

/// What `target` means on the page at `base`.
pub(super) fn join(base: &str, target: &str) -> String {
    if target.starts_with("https://") || target.starts_with("http://") {
        return target.to_owned();
    }
    let (scheme, rest) = base.split_once("://").unwrap_or(("https", base));
    if target.starts_with("//") {
        return format!("{scheme}:{target}");
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if target.starts_with('/') {
        return format!("{scheme}://{authority}{target}");
    }
    let mut steps: Vec<&str> = path.split(['?', '#']).next().unwrap_or_default().split('/').collect();
    steps.pop();
    for step in target.split('/') {
        match step {
            "." => {}
            ".." if steps.len() > 1 => drop(steps.pop()),
            ".." => {}
            _ => steps.push(step),
        }
    }
    let path = steps.join("/");
    format!("{scheme}://{authority}/{}", path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_leads_to() {
        let base = "https://h:1/a/simple/onnxruntime/?x=/y";
        for (target, expected) in [
            ("https://f/x.whl", "https://f/x.whl"),
            ("//f/x.whl", "https://f/x.whl"),
            ("/x.whl#sha256=1", "https://h:1/x.whl#sha256=1"),
            ("x.whl", "https://h:1/a/simple/onnxruntime/x.whl"),
            ("../../files/x.whl", "https://h:1/a/files/x.whl"),
            ("../../../../../x", "https://h:1/x"),
        ] {
            assert_eq!(join(base, target), expected, "{target}");
        }
    }

    #[test]
    fn a_password_becomes_a_header() {
        assert_eq!(secret_of("https://a%40b:c@host/x@y").as_deref(), Some("a@b:c"));
        assert_eq!(secret_of("https://host/x@y"), None);
        for (secret, expected) in
            [("Aladdin:open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), ("ab:", "Basic YWI6")]
        {
            assert_eq!(basic(secret).unwrap(), expected);
        }
    }
}
