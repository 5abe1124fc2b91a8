//! The end of a version's series.
//!
//! Owns which series a version has. Without it, each version that ever served would be in every scrape for good.

use std::sync::PoisonError;

use super::endpoint::Endpoint;
use super::labels::VersionLabels;
use super::metrics::{Metrics, OK, PluginLabels, RequestLabels, StageLabels};
use crate::error::ErrorCode;
use crate::pipeline::Stage;

/// The stage that stands for all of a request.
const TOTAL: &str = "total";

impl Metrics {
    /// Takes a version out of the metrics; should it come back, it counts from zero.
    pub fn forget(&self, model: &str, version: &str) {
        self.unloaded(model, version);
        self.compute.forget(model, version);
        let labels = VersionLabels::of(model, version);
        let VersionLabels { model, version } = labels.clone();
        for counters in [&self.instances_created, &self.instances_broken] {
            counters.remove(&labels);
        }
        for stage in Stage::ALL.map(Stage::as_str).into_iter().chain([TOTAL]) {
            self.durations.remove(&StageLabels { model: model.clone(), version: version.clone(), stage });
        }
        for endpoint in Endpoint::ALL.map(Endpoint::as_str) {
            for outcome in ErrorCode::ALL.map(ErrorCode::as_str).into_iter().chain([OK]) {
                let (model, version) = (model.clone(), version.clone());
                self.requests.remove(&RequestLabels { model, version, endpoint, outcome });
            }
        }
        let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        for plugin in plugins.remove(&(model.clone(), version.clone())).unwrap_or_default() {
            for stage in [Stage::Preprocess, Stage::Postprocess].map(Stage::as_str) {
                let (model, version, plugin) = (model.clone(), version.clone(), plugin.clone());
                self.plugin_cpu.remove(&PluginLabels { model, version, plugin, stage });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pipeline::StageTimes;

    #[test]
    fn nothing_is_left_of_a_version_that_is_forgotten() {
        let metrics = Metrics::new("test");
        for version in ["1", "2"] {
            let series = metrics.generation("m", version, Some("plugin"));
            metrics.compute().generation("m", version);
            series.finished(Endpoint::Predict, Ok(()), Duration::ZERO, &StageTimes::default());
            for code in ErrorCode::ALL {
                series.finished(Endpoint::Infer, Err(code), Duration::ZERO, &StageTimes::default());
            }
            series.observe(
                1,
                (1, 1),
                1,
                Some(crate::plugin::PoolStatus { instances: 1, created: 1, broken: 1 }),
            );
        }
        metrics.forget("m", "1");
        let text = metrics.encode(|| {}).unwrap();
        assert!(text.contains("version=\"2\""));
        let left: Vec<_> = text.lines().filter(|line| line.contains("version=\"1\"")).collect();
        assert!(left.is_empty(), "{left:#?}");
    }
}
