//! Tokens: JWTs that an issuer has signed.
//!
//! Owns what a token must be to be believed. Nothing in a token says how it is to be verified: its `alg` and `kid` choose
//! among the keys that are known, and `jwk`, `jku`, `x5c` and `x5u` choose nothing.

use std::time::{Duration, SystemTime};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::credential::LONGEST;
use super::identity::{Identity, Kind};
use super::keys::{KeySet, VerificationKey};
use super::scopes::Scopes;
use crate::config::JwtSettings;

/// Keys that are tried for one token.
const MOST_TRIES: usize = 16;
/// The longest subject, in bytes.
const LONGEST_SUBJECT: usize = 256;

/// What a token has to say besides being signed.
#[derive(Clone, Debug)]
pub(super) struct TokenRules {
    issuer: Option<String>,
    audience: Option<String>,
    leeway: Duration,
    scope_claim: String,
}

impl TokenRules {
    pub(super) fn new(settings: &JwtSettings) -> Self {
        Self {
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            leeway: settings.leeway,
            scope_claim: settings.scope_claim.clone(),
        }
    }

    pub(super) fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.leeway.as_secs();
        validation.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

/// A token that is believed.
#[derive(Debug)]
pub(super) struct Believed {
    pub(super) identity: Identity,
    /// From when on it is not any more, leeway included.
    pub(super) until: SystemTime,
}

/// Why a token is not believed. Texts are for the log, and hold no part of the token but its `kid`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotBelieved {
    /// Whatever keys there may be.
    Refused(String),
    /// No key of its `kid` is known; there may be one by now.
    UnknownKey(String),
    /// It has no `kid`, and there is no key that it could be of; there may be one by now.
    NoKey(String),
}

fn refused(reason: impl Into<String>) -> NotBelieved {
    NotBelieved::Refused(reason.into())
}

/// Verifies a token with the keys that are valid now.
pub(super) fn verify(token: &str, keys: &KeySet, rules: &TokenRules) -> Result<Believed, NotBelieved> {
    if token.len() > LONGEST {
        return Err(refused("the token is too long"));
    }
    if token.bytes().filter(|&byte| byte == b'.').count() != 2 {
        return Err(refused("the token has not three parts"));
    }
    let header = decode_header(token)
        .map_err(|_| refused("the token's header cannot be read, or names no algorithm that is served"))?;
    check_header(&header)?;
    let mut reason = None;
    for key in candidates(&header, keys).take(MOST_TRIES) {
        let Some(validation) = key.validation(header.alg) else {
            continue;
        };
        match decode::<Map<String, Value>>(token, &key.key, validation) {
            Ok(data) => return believe(&data.claims, rules),
            Err(error) => {
                let because = describe(error.kind());
                // A key that fits tells more than those that do not.
                if reason.is_none() || !matches!(error.kind(), ErrorKind::InvalidSignature) {
                    reason = Some(because);
                }
            }
        }
    }
    match &header.kid {
        Some(kid) if !keys.keys.iter().any(|key| key.kid.as_ref() == Some(kid)) => {
            Err(NotBelieved::UnknownKey(kid.chars().take(100).collect()))
        }
        // No key that it could be of has come yet.
        None if reason.is_none() => {
            Err(NotBelieved::NoKey(format!("no key for {:?} is known, and the token names none", header.alg)))
        }
        _ => Err(refused(reason.unwrap_or_else(|| format!("no key for {:?} is known", header.alg)))),
    }
}

fn check_header(header: &Header) -> Result<(), NotBelieved> {
    if header.crit.is_some() {
        return Err(refused("the token's header has 'crit', and nothing that it could name is served"));
    }
    if header.enc.is_some() || header.zip.is_some() {
        return Err(refused("the token is encrypted or compressed"));
    }
    if let Some(typ) = &header.typ
        && !["jwt", "at+jwt", "application/at+jwt"].iter().any(|known| known.eq_ignore_ascii_case(typ))
    {
        return Err(refused("the token's 'typ' is neither JWT nor at+jwt"));
    }
    Ok(())
}

/// The keys that a token may be signed with. One that has a name is for tokens with that name alone, or with none.
fn candidates<'a>(header: &'a Header, keys: &'a KeySet) -> impl Iterator<Item = &'a VerificationKey> {
    let named = |key: &&VerificationKey| match (&header.kid, &key.kid) {
        (Some(wanted), Some(own)) => wanted == own,
        _ => true,
    };
    keys.keys.iter().filter(|key| key.validation(header.alg).is_some()).filter(named)
}

fn believe(claims: &Map<String, Value>, rules: &TokenRules) -> Result<Believed, NotBelieved> {
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    if subject.is_empty() || subject.len() > LONGEST_SUBJECT || subject.chars().any(char::is_control) {
        return Err(refused("the token's 'sub' is no name of at most 256 bytes"));
    }
    let scopes = match claims.get(&rules.scope_claim) {
        Some(Value::String(words)) => Scopes::read(words.split(' ')),
        Some(Value::Array(words)) => Scopes::read(words.iter().filter_map(Value::as_str)),
        _ => Scopes::default(),
    };
    let expires = claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
    // A time that a clock cannot show is as good as never.
    let expires = Duration::try_from_secs_f64(expires).ok().and_then(|since| since.checked_add(rules.leeway));
    let until = expires.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    let forever = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
    let identity = Identity::new(Kind::Token, subject.to_owned(), scopes);
    Ok(Believed { identity, until: until.unwrap_or(forever) })
}

/// What is wrong, without the values of claims that somebody may have made up.
fn describe(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::InvalidSignature => "the token's signature is not that of any key it can be of".to_owned(),
        ErrorKind::ExpiredSignature => "the token has expired".to_owned(),
        ErrorKind::ImmatureSignature => "the token is not valid yet ('nbf')".to_owned(),
        ErrorKind::InvalidIssuer => "the token is of another issuer".to_owned(),
        ErrorKind::InvalidAudience => "the token is meant for another audience".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("the token has no '{claim}' that can be read"),
        ErrorKind::InvalidClaimFormat(claim) => format!("the token's '{claim}' cannot be read"),
        _ => "the token cannot be read".to_owned(),
    }
}
