//! What several hosts agree on, by way of Redis.
//!
//! Owns the list of nodes and what each serves, and the records that their traffic has in common: how two of them
//! become one, and how they get into the store and out of it. It is on no request's path, and decides nothing
//! about traffic: `repository/sharing.rs` applies what is in a record.
//!
//! - `record`: a record, and its join
//! - `share`: one node's side of a record: what it knows, what the store has, what is to be put
//! - `shelf`: the keys and scripts of records, leads and counts
//! - `info`, `registry`: who is there

mod info;
mod record;
mod registry;
mod share;
mod shelf;

pub use info::{Addresses, NodeInfo};
pub use record::{Part, Record, Stamp, Unreadable};
pub use registry::{Identity, Listing, Nodes};
pub use share::{Put, Share};
pub use shelf::{Changes, Looked, Placed, Shelf};
