//! Tokens, sets of keys and the gate: what is believed, and every attack that is known.

mod attacks;
mod gate;
mod sets;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::{Value, json};

use super::keys::{KeySet, VerificationKey, from_file};
use super::token::{Believed, NotBelieved, TokenRules, verify};
use crate::config::JwtSettings;

/// A secret of HMAC; long enough for all of it.
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// An issuer with a key for an algorithm.
struct Issuer {
    algorithm: Algorithm,
    signing: EncodingKey,
    /// What the server gets: a secret or a public key as PEM.
    public: Vec<u8>,
}

impl Issuer {
    fn new(algorithm: Algorithm) -> Self {
        use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512};
        let pair = match algorithm {
            HS256 | HS384 | HS512 => {
                return Self {
                    algorithm,
                    signing: EncodingKey::from_secret(SECRET),
                    public: SECRET.to_vec(),
                };
            }
            ES256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            ES384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
            EdDSA => KeyPair::generate_for(&PKCS_ED25519),
            _ => {
                let pem = rsa();
                let signing = EncodingKey::from_rsa_pem(pem.serialize_pem().as_bytes()).unwrap();
                return Self { algorithm, signing, public: pem.public_key_pem().into_bytes() };
            }
        }
        .unwrap();
        let pem = pair.serialize_pem();
        let signing = match algorithm {
            EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_ec_pem(pem.as_bytes()),
        };
        Self { algorithm, signing: signing.unwrap(), public: pair.public_key_pem().into_bytes() }
    }

    fn token(&self, kid: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.signing).unwrap()
    }

    fn key(&self, kid: Option<&str>, rules: &TokenRules) -> VerificationKey {
        let key = from_file(self.algorithm, Path::new("key"), &self.public).unwrap();
        VerificationKey::new(kid.map(str::to_owned), &[self.algorithm], key, rules)
    }
}

/// One key for all tests: to make one takes seconds.
fn rsa() -> &'static KeyPair {
    use rcgen::{PKCS_RSA_SHA256, RsaKeySize};
    static PAIR: std::sync::OnceLock<KeyPair> = std::sync::OnceLock::new();
    PAIR.get_or_init(|| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap())
}

const ALGORITHMS: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

fn rules() -> TokenRules {
    TokenRules::new(&JwtSettings {
        issuer: Some("me".to_owned()),
        audience: Some("nuke".to_owned()),
        ..JwtSettings::default()
    })
}

fn seconds(from_now: i64) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(now.as_secs()).unwrap() + from_now
}

/// Claims that are in order, with some of them changed; `null` takes one out.
fn claims(changed: Value) -> Value {
    let mut all: BTreeMap<String, Value> = serde_json::from_value(json!({
        "sub": "ann", "iss": "me", "aud": "nuke", "exp": seconds(300), "scope": "predict:digits metrics",
    }))
    .unwrap();
    for (name, value) in changed.as_object().unwrap() {
        all.insert(name.clone(), value.clone());
    }
    all.retain(|_, value| !value.is_null());
    json!(all)
}

fn set(keys: Vec<VerificationKey>) -> KeySet {
    KeySet { keys, epoch: 1 }
}

fn check(token: &str, keys: &KeySet) -> Result<Believed, NotBelieved> {
    verify(token, keys, &rules())
}

#[track_caller]
fn reason(outcome: Result<Believed, NotBelieved>) -> String {
    match outcome {
        Ok(believed) => panic!("believed: {believed:?}"),
        Err(NotBelieved::Refused(reason) | NotBelieved::NoKey(reason)) => reason,
        Err(NotBelieved::UnknownKey(kid)) => format!("unknown key {kid}"),
    }
}
