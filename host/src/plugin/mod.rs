//! Plugins: sandboxed WebAssembly components that turn bytes into tensors and tensors into answers.
//!
//! Owns everything that names wasmtime: the engine, loading and checking a component, the pool of
//! warm instances, the limits of a call, and what a plugin may import. It never knows a model, a
//! queue or a protocol.
//!
//! Invariants:
//! - One wasmtime engine per process ([`PluginEngine`]).
//! - An instance whose call trapped, ran out of time or was cancelled is dropped, never reused.
//! - Precompiled code is read from the engine's own cache alone, never from a bundle.
//! - Plugin code runs on the engine's CPU runtime, never on a network thread.

mod bindings;
mod call;
mod clock;
mod contract;
mod convert;
mod engine;
mod imports;
mod instance;
mod limits;
mod loader;
mod output;
mod pool;
mod trap;

pub use call::{Called, PluginRequest, Preprocessed, Response};
pub use contract::{Contract, ContractError};
pub use engine::{EngineError, EngineOptions, PluginEngine};
pub use imports::BundleContext;
pub use limits::PluginLimits;
pub use loader::{LoadError, Plugin, PluginSource};
pub use pool::PoolStatus;
