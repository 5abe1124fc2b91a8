//! Who asks.

use std::net::IpAddr;

use super::scopes::Scopes;

/// What a caller has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A token that an issuer has signed.
    Token,
    /// An API key.
    ApiKey,
    /// A client certificate.
    Certificate,
    /// Nothing.
    Anonymous,
}

impl Kind {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::Token, Self::ApiKey, Self::Certificate, Self::Anonymous];

    /// Its name in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::ApiKey => "api_key",
            Self::Certificate => "certificate",
            Self::Anonymous => "anonymous",
        }
    }
}

/// A caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name: a token's `sub`, a key's name, a certificate's subject; `anonymous` for all that show nothing.
    pub subject: String,
    /// What it has shown.
    pub kind: Kind,
    /// What it may do.
    pub scopes: Scopes,
    /// The name that its limits are kept under: two kinds of callers never share one.
    pub(super) account: String,
}

impl Identity {
    pub(super) fn new(kind: Kind, subject: String, scopes: Scopes) -> Self {
        let account = format!("{}:{subject}", kind.as_str());
        Self { subject, kind, scopes, account }
    }

    /// Somebody who has shown nothing. Where it asks from is all that is known.
    pub(super) fn anonymous(scopes: Scopes) -> Self {
        let subject = Kind::Anonymous.as_str().to_owned();
        Self { subject, kind: Kind::Anonymous, scopes, account: String::new() }
    }
}

/// The name that the limits of somebody are kept under who has shown nothing. All addresses of an IPv6 network are one.
pub(super) fn account_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("{:x}", u128::from(v6) >> 64),
    }
}
