//! What operators see: metrics, statistics and logs.
//!
//! Owns every metric's name and the set-up of the log. It never decides anything.

mod audit;
mod cache;
mod compute;
mod endpoint;
mod forget;
mod front;
mod generation;
mod in_flight;
mod json_line;
mod labels;
mod logging;
mod memory;
mod metrics;
mod nodes;
mod shared_auth;
mod statistics;
mod store;
mod traffic;
mod writer;

pub use audit::{Audit, AuditEntry, KeyChange};
pub use cache::{CacheLevel, CacheMetrics, CacheOutcome, CacheSeries};
pub use compute::{ComputeMetrics, ComputeSeries};
pub use endpoint::Endpoint;
pub use front::FrontMetrics;
pub use generation::GenerationMetrics;
pub use in_flight::InFlight;
pub use logging::{LogControl, LogGuard, LogOptions, start_logging};
pub use memory::MemoryMetrics;
pub use metrics::Metrics;
pub use nodes::NodeMetrics;
pub use shared_auth::SharedAuthMetrics;
pub use statistics::{BatchStatistics, RunTimes, Statistics, StatisticsCounter, StatisticsSnapshot, Timed};
pub use store::StoreMetrics;
pub use traffic::{ArmCount, MirrorOutcome, ShadowMetrics, TrafficMetrics};
