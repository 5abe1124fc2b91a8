//! The folders that operators see, and what of them is being served.
//!
//! Owns reading model folders and plugin folders, making generations of them, and the index that
//! requests look them up in; the manifests of published versions, and publishing itself. The request path
//! only ever reads the index, which takes no lock.

mod agreed;
mod announce;
mod checked;
mod commands;
mod content;
mod decisions;
mod door;
mod drain;
mod files;
mod fingerprint;
mod found;
mod hints;
mod index;
mod keeper;
mod layout;
mod load;
mod manifest;
mod publish;
mod reconcile;
mod rest;
mod rollback;
mod room;
mod scan;
mod settle;
mod sharing;
mod signature;
mod startup;
mod status;
mod steering;
mod swap;
mod tracked;
mod validation;
mod version;
mod versions;
mod warmup;
mod works;

pub use commands::KeeperHandle;
pub use decisions::{Decisions, policy as traffic_policy};
pub use door::Door;
pub use found::Found;
pub use index::{Model, ModelIndex, Route};
pub use keeper::{Keeper, KeeperError, KeeperOptions};
pub use layout::{VersionSource, find_sources};
pub use load::{Loader, LoaderOptions};
pub use manifest::{FileSum, MANIFEST_FILE, Manifest, Mismatch};
pub use publish::{Kind, Progress, PublishError, PublishRequest, Published, Signer, publish, unpublish};
pub use sharing::{SharedState, Sharing};
pub use signature::TrustedKeys;
pub use startup::load_all;
pub use status::{Draining, LoadFailure, LoadStage, VersionStatus};
pub use steering::{SetError, Steering};
pub use validation::{ChildArgs, ValidationOptions, run_child};
pub(crate) use version::compare as compare_versions;
pub use versions::{ListedVersion, ManifestState, list_versions};
