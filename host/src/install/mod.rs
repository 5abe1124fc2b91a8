//! `nuke runtime install`: getting the ONNX Runtime library that this host is built for.
//!
//! Owns which file that is for each platform, where it comes from, that nothing but it is taken, and where it
//! lies afterwards. It never loads the library: `model` does.
//!
//! Invariants: a library appears in its folder whole and with the digest of its pin, or not at all; what was
//! there before is replaced file by file, so that a host that uses it goes on using the old one.

mod download;
mod error;
mod https;
mod index;
mod library;
mod pins;
mod settings;
mod wheel;

pub use error::InstallError;
pub use library::{Order, State, folder, inspect, install};
pub use pins::{Flavour, Pin, PinnedFile, VERSION, pin};
pub use settings::Registry;
