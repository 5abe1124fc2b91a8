//! What a plugin may import, one file for each capability.
//!
//! Owns the host's side of each interface. It never decides who is granted what: the loader links
//! only what was declared and allowed.

mod bundle;
mod image;
mod logging;

pub use bundle::BundleContext;
pub(super) use image::PictureBudget;
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
pub use image::PictureHandle;
pub(super) use logging::LogBudget;
