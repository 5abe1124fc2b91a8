//! An issuer of tokens.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, encode};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize,
};
use serde_json::{Value, json};

/// The secret that every host of these tests knows.
pub(crate) const SECRET: &[u8] = b"an-issuers-secret-that-no-output-may-ever-show-0123456789abcdefgh";

/// Somebody who signs tokens.
pub(crate) struct Issuer {
    pub(crate) algorithm: Algorithm,
    pub(crate) key: EncodingKey,
    /// What a host gets: a secret, or a public key as PEM.
    pub(crate) public: Vec<u8>,
}

impl Issuer {
    pub(crate) fn hs256() -> Self {
        Self::new(Algorithm::HS256)
    }

    pub(crate) fn new(algorithm: Algorithm) -> Self {
        use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512};
        let pair = match algorithm {
            HS256 | HS384 | HS512 => {
                return Self { algorithm, key: EncodingKey::from_secret(SECRET), public: SECRET.to_vec() };
            }
            ES256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
            ES384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(),
            EdDSA => KeyPair::generate_for(&PKCS_ED25519).unwrap(),
            _ => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
        };
        let pem = pair.serialize_pem();
        let key = match algorithm {
            ES256 | ES384 => EncodingKey::from_ec_pem(pem.as_bytes()),
            EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        Self { algorithm, key: key.unwrap(), public: pair.public_key_pem().into_bytes() }
    }

    /// A token with these claims beside those that are in order.
    pub(crate) fn token(&self, changed: Value) -> String {
        self.token_of(None, changed)
    }

    /// As [`Issuer::token`], with a name for its key.
    pub(crate) fn token_of(&self, kid: Option<&str>, changed: Value) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(self.algorithm) };
        encode(&header, &claims(changed), &self.key).unwrap()
    }

    /// The key as a set of keys has it.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let public = match self.algorithm.family() {
            AlgorithmFamily::Hmac => DecodingKey::from_secret(&self.public),
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(&self.public).unwrap(),
            AlgorithmFamily::Ec => DecodingKey::from_ec_pem(&self.public).unwrap(),
            AlgorithmFamily::Ed => DecodingKey::from_ed_pem(&self.public).unwrap(),
        };
        let mut key =
            serde_json::to_value(Jwk::from_decoding_key(&public, Some(self.algorithm)).unwrap()).unwrap();
        key["kid"] = json!(kid);
        key
    }
}

/// Claims that are in order, but for those that are changed; `null` takes one out.
pub(crate) fn claims(changed: Value) -> Value {
    let mut all =
        json!({"sub": "ann", "iss": "me", "aud": "nuke", "exp": seconds(600), "scope": "predict:*"});
    for (name, value) in changed.as_object().unwrap() {
        all[name] = value.clone();
    }
    all.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    all
}

/// So many seconds from now.
pub(crate) fn seconds(from_now: i64) -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap() + from_now
}
