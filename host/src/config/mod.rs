//! What the server, a model and a bundle are told to do: `config.yaml`, `model.yaml` and
//! `bundle.yaml`, environment variables and flags.
//!
//! Owns reading those sources into plain structs, with every problem found at once and the place
//! of each, and the record of where each value came from. One mechanism serves all three files:
//! text -> `tree` (every key with its line) -> `overlay` (variables and flags) -> `section`
//! (asks for each key by name; whatever nobody asked for is an unknown key).
//!
//! It never opens anything but those YAML files, never listens, and never looks whether a folder
//! or model that is named exists: that is for those who use it. Keys, defaults and their reasons
//! are in `docs/configuration.md`, held complete by a test.

mod address;
mod answers;
mod auth;
mod auth_decode;
mod batching;
mod bundle;
mod cache;
mod device;
mod exposure;
mod file;
mod json_text;
mod key_file;
mod later;
mod limits;
mod load;
mod model;
mod model_cache;
mod names;
mod names_auth;
mod nearest;
mod node;
mod on_demand;
mod overlay;
mod path;
mod problem;
mod quantity;
mod reader;
mod redis_url;
mod report;
mod section;
mod server;
mod server_decode;
mod setting;
mod tls;
mod traffic;
mod traffic_decode;
mod tree;
mod yaml_text;

#[cfg(test)]
mod tests;

pub use address::ListenAddress;
pub use answers::{CompressionSettings, CorsSettings, ServerTiming};
pub use auth::{ApiKeySettings, AuthSettings, CertificateEntry, JwtKeyEntry, JwtSettings};
pub use batching::{BatchingSettings, Oversize};
pub use bundle::{BundleConfig, BundlePath, PluginRef};
pub use cache::{CacheSettings, RedisAddress, RedisConfig, RedisLogin, RedisPlace, RedisTls};
pub use file::{MAX_FILE as MAX_CONFIG, MAX_KEY_FILE};
pub use key_file::{ApiKeyEntry, ApiKeyFile, KEY_ID_DIGITS, hex};
pub use limits::{LimitEntry, LimitSettings};
pub use load::{Loaded, environment};
pub use model::{Isolation, ModelConfig, QueueSettings, VersionPolicy, WarmupSettings, WorkerSettings};
pub use model_cache::{CacheCompression, CachePolicy, CacheScope};
pub use names::{Capability, ErrorDetails, LogFormat, Pooling, Watch, log_filter};
pub use names_auth::{ByteRate, JwksSource, Network, Rate, ScopeWord};
pub use node::NodeSettings;
pub use on_demand::{IdleLimit, LoadPolicy, OnDemand};
pub use overlay::Override;
pub use path::{KeyPath, PathPart};
pub use problem::{Problem, Problems};
pub use quantity::{ByteSize, duration_of, duration_text};
pub use report::{Report, ReportLine, Source};
pub use server::{
    ListenSettings, LogSettings, ModelEntry, PluginSettings, PredictSettings, RepositorySettings,
    RuntimeSettings, ServerConfig, ValidationSettings,
};
pub use tls::{ClientAuth, TlsSettings, TlsVersion};
pub use traffic::{
    AlsoWanted, BanditPolicy, Colour, Gates, Labels, Number, Quantile, Reward, RolloutPolicy, ShadowPolicy,
    Share, Sticky, TrafficPolicy, WeightedArm,
};
