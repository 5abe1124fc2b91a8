//! What a certificate says of who shows it.
//!
//! Owns the reading of names out of certificates whose signatures rustls has checked. It decides nothing.

use std::net::{Ipv4Addr, Ipv6Addr};

use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::subject::subject;

/// The most names of a certificate that are kept, and the most bytes of each.
const MOST_NAMES: usize = 64;
const LONGEST_NAME: usize = 1024;

/// A client's certificate, whose signature and dates have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The subject, as RFC 4514 escapes it but in the certificate's order: `C=DE, O=Acme, CN=camera-7`. May be
    /// empty; `None` if no text can tell it exactly.
    pub subject: Option<String>,
    /// The subject's common name, if it has just one.
    pub common_name: Option<String>,
    /// Its other names, each with its kind: `dns:camera-7.example`, `ip:10.0.0.7`, `email:a@example`,
    /// `uri:spiffe://…`. At most 64.
    pub sans: Vec<String>,
    /// SHA-256 of the certificate, in lower-case hexadecimal digits.
    pub fingerprint: String,
}

impl PeerCertificate {
    /// Reads the certificate that a handshake has checked; `None` if it cannot be parsed, which a checked one
    /// always can be.
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let subject = subject(parsed.subject());
        let mut common_names = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        let common_name = common_names.next().map(|name| cut(name.to_owned()));
        let common_name = common_name.filter(|_| common_names.next().is_none());
        let sans = parsed.subject_alternative_name().ok().flatten();
        let sans = sans.map(|names| names.value.general_names.iter().filter_map(name_of));
        let sans = sans.into_iter().flatten().take(MOST_NAMES).collect();
        let fingerprint = Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Self { subject, common_name, sans, fingerprint })
    }
}

fn name_of(name: &GeneralName<'_>) -> Option<String> {
    let text = match name {
        GeneralName::DNSName(name) => format!("dns:{name}"),
        GeneralName::RFC822Name(name) => format!("email:{name}"),
        GeneralName::URI(name) => format!("uri:{name}"),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
            let v6 = <[u8; 16]>::try_from(*bytes).map(|bytes| Ipv6Addr::from(bytes).to_string());
            format!("ip:{}", v4.or(v6).ok()?)
        }
        _ => return None,
    };
    Some(cut(text))
}

/// Names come from whoever an authority signed: their length is bounded, and what would break a line of a log
/// or a header is shown, not sent.
fn cut(name: String) -> String {
    let mut name = if name.chars().any(char::is_control) { name.escape_default().to_string() } else { name };
    name.truncate(name.floor_char_boundary(LONGEST_NAME));
    name
}

/// Until when a certificate holds, in seconds of Unix time.
///
/// # Errors
/// It cannot be parsed.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Result<i64, String> {
    let parsed = X509Certificate::from_der(certificate);
    let (_, parsed) = parsed.map_err(|_| "has a certificate that cannot be parsed".to_owned())?;
    Ok(parsed.validity().not_after.timestamp())
}
