//! From PEM files to the TLS settings of a listener.
//!
//! Owns what a server's certificate, key, authorities and revocation lists must be like, and which versions
//! and protocols are offered.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::ALPN;
use super::files::Material;
use super::peer::not_after;

/// Where the files of a listener are, and what is asked of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// The server's certificate and those between it and its root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Whose client certificates are accepted; `None` asks for none.
    pub client_ca: Option<PathBuf>,
    /// Whether clients without a certificate are refused.
    pub client_required: bool,
    /// Revocation lists for clients' certificates.
    pub client_crl: Option<PathBuf>,
    /// Offers TLS 1.3 alone.
    pub only_tls13: bool,
}

/// Why files make no TLS settings. It names the file, never what is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{}' {reason}", path.display())]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

impl TlsError {
    pub(super) fn of(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.to_owned(), reason: reason.into() }
    }
}

/// The settings that a handshake uses, and until when their certificate holds, in seconds of Unix time.
pub(super) struct Built {
    pub(super) config: Arc<ServerConfig>,
    pub(super) not_after: i64,
}

/// Makes a listener's settings.
///
/// # Errors
/// The file at fault, and what was expected of it.
pub(super) fn build(options: &ServerOptions, material: &Material) -> Result<Built, TlsError> {
    let chain = certificates(&options.cert, &material.cert)?;
    let leaf = chain.first().ok_or_else(|| TlsError::of(&options.cert, "has no certificate"))?;
    let not_after = not_after(leaf).map_err(|reason| TlsError::of(&options.cert, reason))?;
    let key = private_key(&options.key, &material.key)?;
    let versions: &[&'static SupportedProtocolVersion] =
        if options.only_tls13 { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions);
    let builder = builder.map_err(|error| TlsError::of(&options.cert, error.to_string()))?;
    let builder = match verifier(options, material)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| wrong_pair(options, &error))?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    Ok(Built { config: Arc::new(config), not_after })
}

fn wrong_pair(options: &ServerOptions, error: &rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::of(&options.key, format!("is not the key of '{}'", options.cert.display()))
        }
        _ => TlsError::of(&options.cert, format!("and its key cannot be used: {error}")),
    }
}

fn verifier(
    options: &ServerOptions,
    material: &Material,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let (Some(path), Some(authorities)) = (&options.client_ca, &material.client_ca) else {
        return Ok(None);
    };
    let roots = Arc::new(roots(path, authorities)?);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
    if let (Some(path), Some(lists)) = (&options.client_crl, &material.client_crl) {
        let lists = sections::<CertificateRevocationListDer<'_>>(path, lists, "revocation list (X509 CRL)")?;
        builder = builder.with_crls(lists).only_check_end_entity_revocation().enforce_revocation_expiration();
    }
    if !options.client_required {
        builder = builder.allow_unauthenticated();
    }
    let at_fault = options.client_crl.as_ref().unwrap_or(path);
    builder.build().map(Some).map_err(|error| TlsError::of(at_fault, format!("cannot be used: {error}")))
}

/// The authorities of a PEM file.
///
/// # Errors
/// There is none, or one that cannot be parsed.
pub(super) fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        let added = roots.add(certificate);
        added
            .map_err(|error| TlsError::of(path, format!("has a certificate that cannot be used: {error}")))?;
    }
    Ok(roots)
}

/// The certificates of a PEM file, in its order.
///
/// # Errors
/// There is none, or the file is damaged.
pub(super) fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    sections(path, pem, "certificate (CERTIFICATE)")
}

fn sections<T: PemObject>(path: &Path, pem: &[u8], what: &str) -> Result<Vec<T>, TlsError> {
    let found: Result<Vec<T>, _> = T::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| damaged(path, &error))?;
    if found.is_empty() {
        return Err(TlsError::of(path, format!("has no {what} in PEM form")));
    }
    Ok(found)
}

/// The first private key of a PEM file.
///
/// # Errors
/// There is none, it has a password, or the file is damaged.
pub(super) fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let encrypted = b"ENCRYPTED";
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound if pem.windows(encrypted.len()).any(|window| window == encrypted) => {
            TlsError::of(
                path,
                "has a key with a password, which cannot be asked for; remove it: openssl pkey",
            )
        }
        pem::Error::NoItemsFound => TlsError::of(path, "has no private key in PEM form"),
        error => damaged(path, &error),
    })
}

/// The parser's own words may quote a line of the file, which may be the key's.
fn damaged(path: &Path, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "ends within a section",
        pem::Error::IllegalSectionStart { .. } => "has a section whose first line is damaged",
        pem::Error::Base64Decode(_) => "has a section that is not base64",
        _ => "is damaged",
    };
    TlsError::of(path, format!("{reason}; expected PEM text"))
}
