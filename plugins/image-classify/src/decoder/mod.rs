//! Where pictures are decoded: by the host, or within this component. Both have the same `Picture`.

#[cfg(feature = "wasm-decode")]
mod own;

#[cfg(not(any(feature = "host-image", feature = "wasm-decode")))]
compile_error!("choose where pictures are decoded: feature `host-image` or `wasm-decode`");

#[cfg(not(feature = "wasm-decode"))]
pub use nuke_plugin_sdk::image::Picture;
#[cfg(feature = "wasm-decode")]
pub use own::Picture;

/// Which of the two this build has, for the log.
pub const NAME: &str = if cfg!(feature = "wasm-decode") { "wasm" } else { "host" };
