//! The keys that verify tokens.
//!
//! Owns the rule that a key is for its own algorithms and no other, whatever a token says: an RSA key never becomes a
//! secret of HMAC.

use std::path::Path;

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation};

use super::token::TokenRules;

/// Bytes of a file that may be a key.
pub(super) const LARGEST_KEY: u64 = 64 << 10;
/// The shortest modulus of RSA, in bits.
const RSA_BITS: usize = 2048;

/// A key with the algorithms that it is for.
#[derive(Clone, Debug)]
pub(super) struct VerificationKey {
    /// Its name in tokens.
    pub(super) kid: Option<String>,
    /// Each algorithm with what a token has to say besides.
    pub(super) validations: Vec<(Algorithm, Validation)>,
    pub(super) key: DecodingKey,
}

impl VerificationKey {
    pub(super) fn new(
        kid: Option<String>,
        algorithms: &[Algorithm],
        key: DecodingKey,
        rules: &TokenRules,
    ) -> Self {
        let validations =
            algorithms.iter().map(|&algorithm| (algorithm, rules.validation(algorithm))).collect();
        Self { kid, validations, key }
    }

    /// What a token of this algorithm has to say, if the key is for it.
    pub(super) fn validation(&self, algorithm: Algorithm) -> Option<&Validation> {
        self.validations.iter().find(|(own, _)| *own == algorithm).map(|(_, validation)| validation)
    }
}

/// All keys that are valid now.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    pub(super) keys: Vec<VerificationKey>,
    /// Another one for each set: what was verified with the keys before counts no more.
    pub(super) epoch: u64,
}

/// Makes a key of a file's bytes: a secret for HMAC, else a public key as PEM. The reason names no byte of it.
pub(super) fn from_file(algorithm: Algorithm, path: &Path, bytes: &[u8]) -> Result<DecodingKey, String> {
    let refused = |reason: String| format!("{}: {reason}", path.display());
    let pem = |key: jsonwebtoken::errors::Result<DecodingKey>| {
        let text = String::from_utf8_lossy(bytes);
        if text.contains("PRIVATE KEY") {
            return Err(refused("this is a private key; only the public one belongs here".to_owned()));
        }
        key.map_err(|_| refused(format!("expected a public key for {algorithm:?} as PEM (BEGIN PUBLIC KEY)")))
    };
    let key = match algorithm.family() {
        AlgorithmFamily::Hmac => {
            let secret = bytes.strip_suffix(b"\n").unwrap_or(bytes);
            let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
            if secret.starts_with(b"-----BEGIN") {
                return Err(refused(format!("this is PEM; {algorithm:?} takes a secret, no public key")));
            }
            DecodingKey::from_secret(secret)
        }
        AlgorithmFamily::Rsa => pem(DecodingKey::from_rsa_pem(bytes))?,
        AlgorithmFamily::Ec => pem(DecodingKey::from_ec_pem(bytes))?,
        AlgorithmFamily::Ed => pem(DecodingKey::from_ed_pem(bytes))?,
    };
    check(algorithm, &key).map_err(refused)?;
    Ok(key)
}

/// Whether a key has the size that its algorithm asks for.
pub(super) fn check(algorithm: Algorithm, key: &DecodingKey) -> Result<(), String> {
    let length = key.try_get_as_bytes().map_or(0, <[u8]>::len);
    let expected = match algorithm {
        Algorithm::HS256 => 32,
        Algorithm::HS384 => 48,
        Algorithm::HS512 => 64,
        // A point, not compressed: both coordinates behind one byte.
        Algorithm::ES256 => 65,
        Algorithm::ES384 => 97,
        Algorithm::EdDSA => 32,
        _ => return check_rsa(key),
    };
    match algorithm.family() {
        AlgorithmFamily::Hmac if length >= expected => Ok(()),
        AlgorithmFamily::Hmac => {
            Err(format!("a secret for {algorithm:?} has at least {expected} bytes, this one has {length}"))
        }
        _ if length == expected => Ok(()),
        _ => Err(format!(
            "a key for {algorithm:?} has {expected} bytes, this one has {length}: another curve?"
        )),
    }
}

fn check_rsa(key: &DecodingKey) -> Result<(), String> {
    let jwk = Jwk::from_decoding_key(key, None).map_err(|_| "this is no RSA key".to_owned())?;
    let AlgorithmParameters::RSA(parameters) = jwk.algorithm else {
        return Err("this is no RSA key".to_owned());
    };
    // Six bits in each digit of base64; a sign's byte may be in front.
    let bits = parameters.n.trim_start_matches('A').len() * 6;
    match bits >= RSA_BITS - 16 {
        true => Ok(()),
        false => Err(format!("an RSA key has at least {RSA_BITS} bits, this one has about {bits}")),
    }
}
