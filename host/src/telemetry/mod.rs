//! What operators see: metrics, statistics and logs.
//!
//! Owns every metric's name and the set-up of the log. It never decides anything.

mod audit;
mod compute;
mod forget;
mod front;
mod json_line;
mod logging;
mod metrics;
mod statistics;
mod traffic;
mod writer;

pub use audit::{Audit, AuditEntry};
pub use compute::{ComputeMetrics, ComputeSeries};
pub use front::FrontMetrics;
pub use logging::{LogGuard, LogOptions, start_logging};
pub use metrics::{Endpoint, GenerationMetrics, InFlight, Metrics};
pub use statistics::{Snapshot, Statistics, Tally};
pub use traffic::{ArmCount, MirrorOutcome, ShadowMetrics, TrafficMetrics};
