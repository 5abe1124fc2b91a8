//! Sets of keys in JSON (RFC 7517).
//!
//! Owns which of its keys can verify a token here. Those for other uses are passed over, as issuers publish them too.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;

use super::keys::{VerificationKey, check};
use super::token::TokenRules;

/// The largest set, in bytes.
pub(super) const LARGEST: usize = 256 << 10;
/// Keys of a set that are looked at.
const MOST: usize = 100;

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// The usable keys of a set. `secrets`: whether there may be secrets in it, which is so for files alone.
///
/// # Errors
/// The text is no set, or none of its keys is usable. The reason names no key's content.
pub(super) fn read(text: &[u8], secrets: bool, rules: &TokenRules) -> Result<Vec<VerificationKey>, String> {
    if text.len() > LARGEST {
        return Err(format!("larger than {LARGEST} bytes"));
    }
    let set: Set = serde_json::from_slice(text).map_err(|error| {
        format!("no set of keys {{\"keys\": [...]}} (line {}, column {})", error.line(), error.column())
    })?;
    let mut keys = Vec::new();
    let mut refused = String::new();
    for (at, value) in set.keys.into_iter().take(MOST).enumerate() {
        let kid = value.get("kid").and_then(|kid| kid.as_str()).map(str::to_owned);
        match usable(value, secrets) {
            Ok((algorithms, key)) => keys.push(VerificationKey::new(kid, &algorithms, key, rules)),
            Err(reason) => refused = format!("; key {at}: {reason}"),
        }
    }
    if keys.is_empty() {
        return Err(format!("no key in it can verify a token{refused}"));
    }
    Ok(keys)
}

/// The algorithms of a key, and the key.
fn usable(value: serde_json::Value, secrets: bool) -> Result<(Vec<Algorithm>, DecodingKey), String> {
    let named = value.get("alg").is_some();
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| "it has no form that is known".to_owned())?;
    if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        return Err("it is not for signatures".to_owned());
    }
    let verifies = |operations: &Vec<KeyOperations>| operations.contains(&KeyOperations::Verify);
    if !jwk.common.key_operations.as_ref().is_none_or(verifies) {
        return Err("it is not for verifying".to_owned());
    }
    let possible = possible(&jwk, secrets)?;
    let algorithms: Vec<Algorithm> = match jwk.common.key_algorithm {
        Some(named) => {
            let named = Algorithm::try_from(named).map_err(|_| "its algorithm is not served".to_owned())?;
            possible.iter().copied().filter(|algorithm| *algorithm == named).collect()
        }
        None if named => return Err("its algorithm is not served".to_owned()),
        None if possible.iter().any(|algorithm| algorithm.family() == AlgorithmFamily::Hmac) => {
            return Err("a secret has to name its 'alg'".to_owned());
        }
        None => possible.to_vec(),
    };
    let Some(&first) = algorithms.first() else {
        return Err("its algorithm does not go with its type".to_owned());
    };
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "its numbers are no base64".to_owned())?;
    check(first, &key)?;
    Ok((algorithms, key))
}

/// The algorithms that a type of key can be for.
fn possible(jwk: &Jwk, secrets: bool) -> Result<&'static [Algorithm], String> {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Ok(&[RS256, RS384, RS512, PS256, PS384, PS512]),
        AlgorithmParameters::EllipticCurve(parameters) => match parameters.curve {
            EllipticCurve::P256 => Ok(&[ES256]),
            EllipticCurve::P384 => Ok(&[ES384]),
            _ => Err("its curve is not served".to_owned()),
        },
        AlgorithmParameters::OctetKeyPair(parameters) => match parameters.curve {
            EllipticCurve::Ed25519 => Ok(&[EdDSA]),
            _ => Err("its curve is not served".to_owned()),
        },
        AlgorithmParameters::OctetKey(_) if secrets => Ok(&[HS256, HS384, HS512]),
        AlgorithmParameters::OctetKey(_) => Err("a secret is nothing that a URL should give out".to_owned()),
        _ => Err("its type is not served".to_owned()),
    }
}
