//! Certificates and keys: of this server, of its clients, and of hosts that the commands talk to.
//!
//! Owns reading them, what of them is accepted, the settings that rustls gets, and their change while the
//! server runs. It never accepts a connection, never knows HTTP but for the two names of it that a handshake
//! agrees on, and never shows a key.
//!
//! - `files`: PEM files, read whole, with who else can read the key.
//! - `server`: from those bytes to the settings of a listener.
//! - `reload`: the settings in effect, followed as the files change.
//! - `peer`: what a client's certificate says of it.
//! - `client`: the settings of a connection to a host.
//! - `self_signed`: a pair for trying it.

mod client;
mod files;
mod peer;
mod reload;
mod self_signed;
mod server;
mod subject;

#[cfg(test)]
mod tests;

pub use client::{ClientOptions, ClientTls};
pub use peer::PeerCertificate;
pub use reload::{Certificates, TlsEvents};
pub use self_signed::{Pair, make_pair};
pub use server::{ServerOptions, TlsError};

/// The protocols that a handshake may agree on, the preferred one first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
