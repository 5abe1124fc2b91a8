//! The host's side of the contract, generated from `wit/` by wasmtime's macro.
//!
//! Owns no logic. Borrowed forms are generated for what the host passes in, so that a request's
//! bytes are copied once: into the guest's memory.
#![allow(missing_docs, unreachable_pub, clippy::all, unused)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin",
    imports: { default: trappable },
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
    with: { "nuke:plugin/image.picture": crate::plugin::imports::PictureHandle },
});
