//! Who is at the other end of a connection.
//!
//! Owns the extension that every request carries. It believes no header.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::tls::PeerCertificate;

/// The other end of the connection that a request came on: an extension of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address: the client's, or that of a proxy in front.
    pub address: SocketAddr,
    /// Whether the connection is under TLS.
    pub is_tls: bool,
    /// Its certificate, if it showed one; the handshake has checked it.
    pub certificate: Option<Arc<PeerCertificate>>,
}
