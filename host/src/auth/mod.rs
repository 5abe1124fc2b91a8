//! Who asks, whether they may, and how much.
//!
//! Owns identities and their scopes, tokens and the keys that verify them, API keys, and the limits of callers and
//! models. Protocols hand in headers and where a connection comes from ([`Gate::enter`]), and get a [`Caller`] that
//! they ask for each thing that is to be done. Nothing on a request's way reads a file or asks another server: keys
//! are read beforehand, and swapped in one pointer.
//!
//! It never knows a status, and what it refuses is told to the client in few words that are always the same; the
//! reason is a line in the log, without the token.

mod api_key;
mod api_keys;
mod authority;
mod credential;
mod fetch;
pub(crate) mod fuzzing;
mod gate;
mod identity;
mod jwks;
mod key_store;
mod keys;
mod limits;
mod register;
mod remote;
mod scopes;
mod shared;
mod token;
mod verified;
mod watch;

#[cfg(test)]
mod tests;

pub use api_key::NewKey;
pub use authority::{AuthError, Authority};
pub use gate::{Caller, Gate, Origin, Refusal};
pub use identity::{Identity, Kind};
pub use key_store::{KeyStore, KeyStoreError, Used, last_used};
pub use limits::{Admitted, Limits, Standing};
pub use scopes::{Need, Scopes};
pub use shared::{SharedKeys, follow_api_keys, note_shared_use, share_limits};
