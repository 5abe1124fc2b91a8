//! The commands that talk to a running host: `nuke predict`, `nuke precompute`, `nuke bench`, `nuke traffic`,
//! `nuke rollout`, `nuke cache`, `nuke nodes`.
//!
//! Owns their arguments, an HTTP client for one host, the load generator and all reports. It never
//! loads a model, never reads the host's configuration and shares no state with a server in this
//! process: all it knows of a host is what comes over the wire, and it trusts none of that.
//!
//! - `values`, `host`: what the arguments mean: durations, headers, the host's URL.
//! - `credentials`: what a command shows of who asks.
//! - `tls`: whom to trust at an https:// URL, and the stream that is plain or not.
//! - `exchange`: one request, one answer, a deadline.
//! - `predict`, `media`, `answer`, `table`, `text`: a file to the host, the answer to a person.
//! - `fill`: many files to the host, so that it remembers the answers; `cache_status`: what it says of that.
//! - `operate`, `traffic`, `cache`, `nodes`: what operators ask of the admin interface.
//! - `bench`: the load generator.
//! - `interrupt`: how a long run is ended.
//!
//! Exit codes: 0 all is well; 1 the host answered with an error; 2 no answer to be had (arguments that do not
//! go together, an unreadable file, nobody listening, time ran out). What clap refuses by itself is 64, as everywhere.

mod answer;
mod bench;
mod cache;
mod cache_status;
mod credentials;
mod error;
mod exchange;
mod fill;
mod host;
mod interrupt;
pub(crate) mod media;
mod nodes;
mod operate;
mod predict;
pub(crate) mod table;
#[cfg(test)]
mod testing;
pub(crate) mod text;
mod tls;
mod traffic;
mod values;

pub use bench::{BenchArgs, run_bench};
pub use cache::{CacheArgs, run_cache};
pub use fill::{FillArgs, run_fill};
pub use nodes::{NodesArgs, run_nodes};
pub use predict::{PredictArgs, run_predict};
pub use traffic::{RolloutArgs, TrafficArgs, run_rollout, run_traffic};
