//! The way in: connections, with or without TLS, and what a client may cost before its request is looked at.
//!
//! Owns accepting, the handshake, the clocks and bounds of a connection, the memory of all requests together,
//! and the drain. It serves any service of requests, and never knows a route, a model or an identity: who came is
//! told by extensions of the request, [`Origin`](crate::auth::Origin) and, if there is a certificate,
//! `Arc<`[`PeerCertificate`](crate::tls::PeerCertificate)`>`.
//!
//! - `listener`: the loop that accepts, and the drain.
//! - `lanes`: the threads that serve connections.
//! - `connection`: one connection, from its first byte to its end.
//! - `seats`: how many there may be, and which one goes when there are more.
//! - `in_flight`: requests and answers of one connection.
//! - `lasting`: streams, which merely wait for most of their time.
//! - `stream`: the clocks of one connection.
//! - `peer`: whether the client has gone.
//! - `frames`: HTTP/2 frames that cost the server and ask for nothing.
//! - `request`: the bounds of one request, and what it carries to the handlers.
//! - `request_body`: a body that the handler did not read.
//! - `memory`: the bytes of all requests together.
//! - `redirect`: from plain to TLS.

mod connection;
mod frames;
mod held;
mod in_flight;
mod lanes;
mod lasting;
mod listener;
mod memory;
mod peer;
mod redirect;
mod request;
mod request_body;
mod seats;
mod settled;
mod stream;

pub(crate) use held::{AnswerSize, reserve};
pub use lanes::Lanes;
pub use lasting::{Lasting, Work};
pub use listener::{Listener, ListenerOptions, TlsOptions};
pub use memory::{MemoryBudget, Reservation};
pub use redirect::Redirect;
pub use request::RequestLimits;
pub(crate) use seats::network;
pub(crate) use settled::Settled;
