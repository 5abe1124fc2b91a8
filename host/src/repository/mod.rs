//! The folders that operators see, and what of them is being served.
//!
//! Owns reading model folders and plugin folders, making generations of them, and the index that
//! requests look them up in. The request path only ever reads the index, which takes no lock.

mod files;
mod fingerprint;
mod hints;
mod index;
mod keeper;
mod layout;
mod load;
mod reconcile;
mod scan;
mod startup;
mod version;
mod warmup;

pub use index::{LoadFailure, ModelIndex, VersionStatus};
pub use keeper::{Keeper, KeeperError, KeeperOptions};
pub use layout::{VersionSource, find_sources};
pub use load::{Loader, LoaderOptions};
pub use startup::load_all;
