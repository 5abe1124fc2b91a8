//! `auth` in `config.yaml`: who is believed to be who.
//!
//! Secrets are never values here: keys are named by their files, so that nothing that prints a configuration
//! can print one.

use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm;

use super::names_auth::{JwksSource, ScopeWord};

/// `auth`: who is believed to be who. With nothing in it, everybody may do everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthSettings {
    /// `jwt`: tokens that somebody else has signed.
    pub jwt: JwtSettings,
    /// `api_keys`: keys that `nuke keys` gives out.
    pub api_keys: ApiKeySettings,
    /// `certificates`, default none: what clients may do that show a certificate of `tls.client_ca`.
    pub certificates: Vec<CertificateEntry>,
    /// `anonymous`, default none: the scopes of a caller who shows nothing.
    pub anonymous: Vec<ScopeWord>,
}

impl AuthSettings {
    /// Whether callers have to say who they are, or may do less than everything if they do not.
    pub fn is_configured(&self) -> bool {
        self.jwt.is_configured()
            || self.api_keys.is_configured()
            || !self.certificates.is_empty()
            || !self.anonymous.is_empty()
    }
}

/// `auth.api_keys`: keys that `nuke keys` gives out. With both a file and Redis, the keys of both are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiKeySettings {
    /// `file`, default none: the file that `nuke keys` writes.
    pub file: Option<PathBuf>,
    /// `redis`, default off: keys and revocations in `cache.redis`, for all nodes that share it.
    pub redis: bool,
}

impl ApiKeySettings {
    /// Whether any key can be known.
    pub fn is_configured(&self) -> bool {
        self.file.is_some() || self.redis
    }
}

/// `auth.jwt`: tokens that somebody else has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSettings {
    /// `keys`, default none: keys in files, each for one algorithm. Two of them are valid at once, so that a
    /// new one can be added before the old one goes.
    pub keys: Vec<JwtKeyEntry>,
    /// `jwks`, default none: a set of keys, in a file or at a URL.
    pub jwks: Option<JwksSource>,
    /// `issuer`, default none: what `iss` has to be.
    pub issuer: Option<String>,
    /// `audience`, default none: what `aud` has to have among it. Without it, tokens that are meant for
    /// somebody (have an `aud`) are refused.
    pub audience: Option<String>,
    /// `leeway`, default 30 s: how far clocks may be apart when `exp` and `nbf` are looked at.
    pub leeway: Duration,
    /// `scope_claim`, default `scope`: the claim that has the scopes, as a text with spaces or a list.
    pub scope_claim: String,
    /// `cache`, default 1 minute: how long a token that was verified is believed without verifying it anew, never
    /// beyond its `exp` or a change of keys; 0 verifies each time.
    pub cache: Duration,
    /// `refresh`, default 5 minutes: how often a URL of `jwks` is asked at the latest; sooner if its answers say so.
    pub refresh: Duration,
    /// `cooldown`, default 10 s: the least time from one asking of the URL to the next that a token with an unknown
    /// `kid` brings about.
    pub cooldown: Duration,
}

impl JwtSettings {
    /// Whether any token can be verified.
    pub fn is_configured(&self) -> bool {
        !self.keys.is_empty() || self.jwks.is_some()
    }
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            jwks: None,
            issuer: None,
            audience: None,
            leeway: Duration::from_secs(30),
            scope_claim: "scope".to_owned(),
            cache: Duration::from_secs(60),
            refresh: Duration::from_secs(300),
            cooldown: Duration::from_secs(10),
        }
    }
}

/// One of `auth.jwt.keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtKeyEntry {
    /// `algorithm`, required: the one algorithm that the key is for.
    pub algorithm: Algorithm,
    /// `file`, required: a secret of at least 32 bytes for HS256, HS384 and HS512, else a public key as PEM.
    pub file: PathBuf,
    /// `kid`, default none: the key's name in tokens; without it, it is tried for tokens of any `kid`.
    pub kid: Option<String>,
}

/// One of `auth.certificates`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateEntry {
    /// `subject`, required: the certificate's subject, or a pattern of it with `*`.
    pub subject: String,
    /// `scopes`, required: what its owner may do.
    pub scopes: Vec<ScopeWord>,
}
