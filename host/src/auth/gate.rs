//! The way in: a request's headers and its connection become a caller, who is then asked for each thing that is done.
//!
//! Owns the order: who is it, how much has it asked for already, may it do this. The same for every protocol.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use super::authority::{Authority, Unknown};
use super::credential::{Credential, credential, hide};
use super::identity::{Identity, Kind};
use super::limits::{Admitted, Limits, Owner, Standing};
use super::scopes::Need;
use crate::config::Network;
use crate::error::{Error, ErrorCode, shown};

/// Where proxies say who asked them.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Proxies in a row that are followed.
const MOST_PROXIES: usize = 16;

/// The other end of a connection, as the listener has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its address.
    pub address: IpAddr,
    /// The subject of the certificate that it has shown, once that was verified.
    pub certificate: Option<Arc<str>>,
}

/// Why a request does not come in.
#[derive(Debug)]
pub struct Refusal {
    /// What the client is told.
    pub error: Error,
    /// How it stands with the limit that it ran into.
    pub standing: Option<Standing>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, standing: None }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Gate {
    authority: Arc<Authority>,
    limits: Arc<Limits>,
    proxies: Vec<Network>,
}

impl Gate {
    /// A gate with these keys and limits. `proxies`: whose `x-forwarded-for` is believed.
    pub fn new(authority: Arc<Authority>, limits: Limits, proxies: Vec<Network>) -> Self {
        Self { authority, limits: Arc::new(limits), proxies }
    }

    /// What callers and models may be asked for.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Whether callers have to say who they are.
    pub fn is_closed(&self) -> bool {
        self.authority.is_configured()
    }

    /// Lets a request in, or not. It counts against its caller's rate. Credentials in `headers` are kept from being
    /// shown from then on.
    ///
    /// # Errors
    /// `Unauthenticated`, `ResourceExhausted`, or `Unavailable` while the keys that could tell are not there.
    pub async fn enter(&self, headers: &mut HeaderMap, peer: &Origin) -> Result<Caller, Refusal> {
        hide(headers);
        let mut caller = self.again(headers, peer).await?;
        caller.count()?;
        Ok(caller)
    }

    /// Asks anew who somebody is who has come in, for a further message of one call: keys and tokens end while it lasts.
    /// It is for the caller to be counted.
    ///
    /// # Errors
    /// `Unauthenticated`, or `Unavailable` while the keys that could tell are not there.
    pub async fn again(&self, headers: &HeaderMap, peer: &Origin) -> Result<Caller, Refusal> {
        let address = self.address(headers, peer);
        let identity = match self.identify(headers, peer).await {
            Ok(identity) => identity,
            Err(unknown) => return Err(self.refuse(address, unknown)),
        };
        let owner = self.limits.owner(&identity, address);
        Ok(Caller { identity, owner, limits: Arc::clone(&self.limits), standing: None })
    }

    async fn identify(&self, headers: &HeaderMap, peer: &Origin) -> Result<Arc<Identity>, Option<Unknown>> {
        if !self.authority.is_configured() {
            return Ok(self.authority.anonymous());
        }
        let shown = credential(headers).map_err(|reason| Some(Unknown::Refused(reason.to_owned())))?;
        match shown {
            Credential::ApiKey(key) => self.authority.api_key(key).map_err(Some),
            Credential::Token(token) => self.authority.token(token).await.map_err(Some),
            Credential::None => {
                let subject = peer.certificate.as_deref();
                if let Some(identity) = subject.and_then(|subject| self.authority.certificate(subject)) {
                    return Ok(identity);
                }
                let anonymous = self.authority.anonymous();
                if anonymous.scopes.is_empty() { Err(None) } else { Ok(anonymous) }
            }
        }
    }

    /// The same words whatever is wrong: a line in the log says more. Who fails counts against its address, so that
    /// trying costs as much as asking.
    fn refuse(&self, address: IpAddr, unknown: Option<Unknown>) -> Refusal {
        if let Err((error, standing)) = self.limits.stranger(address).request() {
            return Refusal { error, standing: Some(standing) };
        }
        let error = match unknown {
            None => Error::new(
                ErrorCode::Unauthenticated,
                "credentials are missing; send 'authorization: Bearer' with a token or an API key, or 'x-api-key'",
            ),
            Some(Unknown::Refused(reason)) => {
                tracing::info!(target: "auth", %address, reason, "credentials are not valid");
                Error::new(ErrorCode::Unauthenticated, "the credentials are not valid")
            }
            Some(Unknown::NoKeys(reason)) => {
                tracing::warn!(target: "auth", %address, reason, "credentials cannot be verified: the keys that could tell have not come yet");
                Error::new(ErrorCode::Unavailable, "the credentials cannot be verified yet; try again")
            }
        };
        error.into()
    }

    /// Who asked the last proxy that is not trusted, or the peer itself.
    pub fn address(&self, headers: &HeaderMap, peer: &Origin) -> IpAddr {
        let is_trusted = |address: IpAddr| self.proxies.iter().any(|network| network.contains(address));
        let mut address = peer.address.to_canonical();
        if self.proxies.is_empty() {
            return address;
        }
        let lines: Vec<&str> =
            headers.get_all(&FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok()).collect();
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(',')).map(str::trim).take(MOST_PROXIES);
        for hop in hops {
            if !is_trusted(address) {
                break;
            }
            let Ok(next) = hop.trim_matches(['[', ']']).parse::<IpAddr>() else {
                break;
            };
            address = next.to_canonical();
        }
        address
    }
}

/// Somebody whose request has come in.
#[derive(Clone, Debug)]
pub struct Caller {
    identity: Arc<Identity>,
    owner: Owner,
    limits: Arc<Limits>,
    standing: Option<Standing>,
}

impl Caller {
    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The name under which somebody is known who has shown who it is.
    pub fn subject(&self) -> Option<&str> {
        (self.identity.kind != Kind::Anonymous).then_some(self.identity.subject.as_str())
    }

    /// How it stands with its rate of requests, after this one; `None` without a limit.
    pub fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    /// Counts a request against its rate.
    ///
    /// # Errors
    /// `ResourceExhausted`.
    pub fn count(&mut self) -> Result<(), Refusal> {
        let counted = self.owner.request();
        self.standing = counted.map_err(|(error, standing)| Refusal { error, standing: Some(standing) })?;
        Ok(())
    }

    /// Whether it may do this.
    ///
    /// # Errors
    /// `PermissionDenied` with the scope that is missing; `Unauthenticated` for somebody who has shown nothing.
    pub fn require(&self, need: Need<'_>) -> Result<(), Error> {
        if self.identity.scopes.allow(need) {
            return Ok(());
        }
        if self.identity.kind == Kind::Anonymous {
            return Err(Error::new(
                ErrorCode::Unauthenticated,
                "credentials are missing; send 'authorization: Bearer' with a token or an API key, or 'x-api-key'",
            ));
        }
        let scope = shown(&need.scope(), 200);
        let message = format!("the credentials do not have the scope {scope}");
        Err(Error::new(ErrorCode::PermissionDenied, message).with_detail("scope", scope))
    }

    /// Whether it may know that there is a model of this name.
    pub fn sees(&self, model: &str) -> bool {
        self.identity.scopes.show(model)
    }

    /// Begins an inference request for a model: it counts against the model's rate, and takes a place of the caller's
    /// and one of the model's until what comes back is dropped.
    ///
    /// # Errors
    /// `ResourceExhausted`.
    pub fn admit(&self, model: &str) -> Result<Admitted, Error> {
        self.limits.admit(&self.owner, model)
    }
}
