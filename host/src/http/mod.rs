//! The front door: HTTP/1.1 and HTTP/2.
//!
//! Owns listening, routing, reading bodies within limits, and the one place where an error becomes a
//! status ([`reply`]). It never knows wasmtime, ONNX Runtime or a folder.

pub(crate) mod access;
pub(crate) mod admin;
pub(crate) mod authorise;
pub(crate) mod body;
mod compression;
mod cors;
mod details;
mod door;
pub(crate) mod front;
pub(crate) mod fuzzing;
pub(crate) mod open;
mod openapi;
pub(crate) mod pace;
mod patience;
mod predict;
pub(crate) mod recalled;
pub mod reply;
pub(crate) mod request_id;
mod router;
mod server_timing;
pub(crate) mod serving;
pub(crate) mod state;
mod status;
pub(crate) mod sticky;
pub(crate) mod target;
mod v1;
pub mod v2;

pub use admin::AdminAccess;
pub use body::BodyBounds;
pub use compression::AnswerOptions;
pub use cors::CorsRules;
pub use door::Door;
pub(crate) use front::network;
pub use front::{
    Lanes, Lasting, Listener, ListenerOptions, MemoryBudget, Redirect, RequestLimits, Reservation,
    TlsOptions, Work,
};
pub use router::{admin_router, router};
pub use server_timing::ServerTiming;
pub use state::{AppParts, AppState, Control, Lifecycle};
