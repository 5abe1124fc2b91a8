//! The front door: HTTP/1.1 and HTTP/2.
//!
//! Owns listening, routing, reading bodies within limits, and the one place where an error becomes a
//! status ([`reply`]). It never knows wasmtime, ONNX Runtime or a folder.

mod access;
mod admin;
mod authorise;
mod body;
mod details;
mod door;
mod predict;
pub mod reply;
mod router;
mod serving;
mod state;
mod status;
mod sticky;
mod target;
pub mod v2;

pub use admin::AdminAccess;
pub use body::BodyBounds;
pub use door::{Listener, ListenerOptions, MemoryBudget, Redirect, RequestLimits, Reservation, TlsOptions};
pub use router::{admin_router, router};
pub use state::{AppParts, AppState, Control, Lifecycle};
