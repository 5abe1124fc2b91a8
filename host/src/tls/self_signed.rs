//! A certificate and its key for trying TLS: signed by itself.
//!
//! Owns what is in it. It writes no file.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

/// A certificate and its private key, both in PEM.
pub struct Pair {
    /// The certificate; clients can trust it by itself.
    pub cert: String,
    /// The private key (PKCS #8, ECDSA on P-256).
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("cert", &self.cert).finish_non_exhaustive()
    }
}

/// Makes a pair for these names and addresses, which holds from an hour ago for so long.
///
/// # Errors
/// A name that no certificate can have, in one line.
pub fn make_pair(hosts: &[String], holds: Duration) -> Result<Pair, String> {
    let params = CertificateParams::new(hosts.to_vec());
    let mut params =
        params.map_err(|error| format!("cannot make a certificate for {}: {error}", hosts.join(", ")))?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    // Clocks of clients may be a little behind.
    params.not_before = epoch + since_epoch.saturating_sub(Duration::from_secs(3600));
    params.not_after = epoch + since_epoch + holds;
    params.distinguished_name = DistinguishedName::new();
    let name = hosts.first().map_or("nuke", String::as_str);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let failed = |error: rcgen::Error| format!("cannot make a key: {error}");
    let key = KeyPair::generate().map_err(failed)?;
    let cert = params.self_signed(&key).map_err(failed)?;
    Ok(Pair { cert: cert.pem(), key: key.serialize_pem() })
}
