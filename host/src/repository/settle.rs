//! When a model's traffic and labels take effect.
//!
//! Owns the rule that traffic never moves to versions that cannot answer: what `model.yaml` or an operator asks
//! for counts once all versions that it names are ready, and until then everything goes on as it is. It decides
//! nothing about versions.

use super::keeper::Keeper;
use super::scan::Scan;

impl Keeper {
    /// Takes note of what is asked for, of each model that can be read.
    pub(super) fn ask_for_traffic(&mut self, scan: &Scan) {
        for (key, candidate) in &scan.wanted {
            if let Ok(settings) = &candidate.source.settings {
                self.asked.insert(key.0.clone(), settings.clone());
            }
        }
        let gone = |model: &String| !scan.wanted.keys().any(|(name, _)| name == model);
        self.asked.retain(|model, _| !gone(model) || scan.unreadable.contains(model));
    }

    /// Applies what is asked for where it can be carried out. To be called before versions are let go, and
    /// after others have come.
    pub(super) fn settle_traffic(&mut self) {
        for (model, settings) in &self.asked {
            if self.index.is_configured(model, settings) {
                self.held_back.remove(model);
                continue;
            }
            let Some(reason) = self.index.missing_for(model, settings) else {
                self.index.configure(model, settings);
                self.held_back.remove(model);
                tracing::info!(
                    model,
                    strategy = settings.traffic.strategy(),
                    "traffic and labels are in effect"
                );
                continue;
            };
            if self.held_back.get(model) != Some(&reason) {
                tracing::warn!(model, %reason, "traffic stays as it is until the versions that it is to go to are ready");
                self.held_back.insert(model.clone(), reason);
            }
        }
    }
}
