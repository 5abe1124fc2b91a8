//! What callers and models have used, of all nodes together.
//!
//! Owns the exchange with Redis: five times a second each rate that was asked for since then is told, and comes back with
//! how far ahead of the clock all nodes' use of it is. In Redis a rate is one key, `<namespace>:limit:{<d>}:<digest>`,
//! which goes by itself when its use is paid for. While Redis is away, each node counts for itself; what it let in
//! meanwhile is not held against anybody later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::Script;

use super::super::limits::{Board, Limits, Report};
use super::random_word;
use crate::store::{Store, StoreError};
use crate::telemetry::SharedAuthMetrics;

/// From one exchange to the next.
const INTERVAL: Duration = Duration::from_millis(200);
/// Accounts that are told in one exchange; what is over that waits for the next.
const MOST: usize = 4096;
/// Rates in one call of the script.
const AT_ONCE: usize = 128;
/// After so long without Redis, what was let in is not told any more.
const FORGET: Duration = Duration::from_secs(1);

const SCRIPT: &str = include_str!("usage.lua");

/// Shares the rates of these limits with other nodes, for as long as it is polled. Returns at once if they are not to be.
pub async fn share_limits(limits: Arc<Limits>, store: Store, metrics: SharedAuthMetrics) {
    let Some(board) = limits.board().cloned() else {
        return;
    };
    drop(limits);
    let node = match random_word() {
        Ok(node) => node,
        Err(error) => {
            tracing::error!(%error, "limits cannot be shared: the system gives no randomness");
            return;
        }
    };
    let mut sharer =
        Sharer { board, store, metrics, node, script: Script::new(SCRIPT), agreed: Instant::now() };
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        sharer.exchange().await;
    }
}

struct Sharer {
    board: Arc<Board>,
    store: Store,
    metrics: SharedAuthMetrics,
    /// This node's name among the others, of this process only.
    node: String,
    script: Script,
    /// When Redis last answered, or had nothing to be asked.
    agreed: Instant,
}

impl Sharer {
    async fn exchange(&mut self) {
        let mut reports = self.board.take(MOST);
        if reports.is_empty() {
            self.agreed = Instant::now();
            return;
        }
        // The keys of one call are of one slot of a Cluster: their tag is the first digit of their name.
        reports.sort_by_cached_key(Report::name);
        let tag = |report: &Report| report.name().chars().next();
        let groups =
            reports.chunk_by(|one, other| tag(one) == tag(other)).flat_map(|group| group.chunks(AT_ONCE));
        let groups: Vec<&[Report]> = groups.collect();
        let outcomes = join_all(groups.iter().map(|group| self.tell(group))).await;
        let is_away = self.agreed.elapsed() > FORGET;
        for (group, outcome) in groups.iter().zip(&outcomes) {
            self.metrics.exchanged(outcome.as_ref().map_or_else(StoreError::outcome, |_| "ok"), group.len());
            match outcome {
                Ok(ahead) => group.iter().zip(ahead).for_each(|(report, ahead)| report.agreed(*ahead)),
                Err(_) => group.iter().for_each(|report| report.failed(is_away)),
            }
        }
        if outcomes.iter().any(Result::is_ok) {
            self.agreed = Instant::now();
        }
    }

    async fn tell(&self, reports: &[Report]) -> Result<Vec<u64>, StoreError> {
        let keys: Vec<String> = reports.iter().map(|report| self.key(&report.name())).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let mut arguments = vec![self.node.clone()];
        for report in reports {
            let said = report.said;
            arguments.extend([said.used, said.told, said.most].map(|number| number.to_string()));
        }
        let arguments: Vec<&[u8]> = arguments.iter().map(String::as_bytes).collect();
        let ahead: Vec<u64> = self.store.run(&self.script, &keys, &arguments).await?;
        match ahead.len() == reports.len() {
            true => Ok(ahead),
            false => Err(StoreError::Garbage("expected an answer for each rate".to_owned())),
        }
    }

    fn key(&self, name: &str) -> String {
        let tag = name.get(..1).unwrap_or_default();
        self.store.key("limit", &format!("{{{tag}}}:{name}"))
    }
}
