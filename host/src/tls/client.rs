//! The TLS settings of a connection to a host.
//!
//! Owns whom a command trusts: the system's authorities, those of a file, or, if it is told so, anybody.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};

use super::ALPN;
use super::files::read;
use super::server::{TlsError, certificates, private_key, roots};

/// Whom to trust, and as whom to come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientOptions {
    /// The authorities to trust, in PEM; without them those of the system.
    pub ca: Option<PathBuf>,
    /// Trust whoever answers.
    pub insecure: bool,
    /// The client's own certificate, in PEM.
    pub cert: Option<PathBuf>,
    /// Its private key, in PEM; without it, it is looked for in the certificate's file.
    pub key: Option<PathBuf>,
}

/// Makes connections by one set of options. Two are equal if one is the other's clone.
#[derive(Clone)]
pub struct ClientTls {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.http1, &other.http1)
    }
}

impl Eq for ClientTls {}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientTls")
    }
}

impl ClientTls {
    /// Reads the files that are named.
    ///
    /// # Errors
    /// The file at fault.
    pub fn open(options: &ClientOptions) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let nowhere = PathBuf::new();
        let at_fault = options.ca.as_ref().or(options.cert.as_ref()).unwrap_or(&nowhere);
        let builder = builder.map_err(|error| TlsError::of(at_fault, error.to_string()))?;
        let builder = if options.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        } else {
            builder.with_root_certificates(match &options.ca {
                Some(path) => roots(path, &read(path)?)?,
                None => system_roots(),
            })
        };
        let config = match &options.cert {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let chain = certificates(path, &read(path)?)?;
                let key_path = options.key.as_ref().unwrap_or(path);
                let key = private_key(key_path, &read(key_path)?)?;
                let config = builder.with_client_auth_cert(chain, key);
                config.map_err(|error| {
                    TlsError::of(key_path, format!("cannot be used with the certificate: {error}"))
                })?
            }
        };
        let [http2, http1] = ALPN.map(|protocol| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        });
        Ok(Self { http1, http2 })
    }

    /// Makes the handshake with a host of this name or address, and agrees on just this protocol.
    ///
    /// # Errors
    /// What the other side is not, with the remedy.
    pub async fn connect(&self, name: &str, http2: bool, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = if http2 { &self.http2 } else { &self.http1 };
        let server = ServerName::try_from(name.to_owned());
        let server =
            server.map_err(|_| io::Error::other(format!("'{name}' is no name that a certificate has")))?;
        let made = TlsConnector::from(Arc::clone(config)).connect(server, tcp).await;
        let stream = made.map_err(explained)?;
        if http2 && stream.get_ref().1.alpn_protocol() != Some(ALPN[0]) {
            return Err(io::Error::other("the host does not agree on h2; leave --http2 out"));
        }
        Ok(stream)
    }
}

/// A failed handshake with what to do about it.
fn explained(error: io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    let remedy = match cause {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            "name the authority that signed it with --ca, or trust anybody with --insecure"
        }
        Some(Error::InvalidCertificate(_)) => "the host's certificate does not hold for this name or time",
        Some(Error::AlertReceived(AlertDescription::CertificateRequired)) => {
            "the host asks for a certificate: --cert and --key"
        }
        Some(Error::InvalidMessage(_)) => "does the host speak TLS at this port, or plain http://?",
        _ => "the TLS handshake failed",
    };
    io::Error::other(format!("{error}; {remedy}"))
}

/// What the system trusts; certificates of it that cannot be used are left out.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Believes every certificate, and still demands that the other side has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
