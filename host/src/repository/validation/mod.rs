//! Trying out a version in a process of its own, before the host itself opens it.
//!
//! Owns both sides: the parent, which hands over the very bytes that it read and turns whatever becomes
//! of the child into a verdict and a reason, and the child, which takes its own rights away, opens the
//! version as the host would, and runs it. A model or a plugin that crashes, hangs, eats memory or is none
//! costs a child and a reason. Versions found good are remembered; failures never are.

mod child;
mod examine;
mod outcome;
mod process;
mod verdicts;
mod wire;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use child::{ChildArgs, run_child};

use super::content::Content;
use super::load::LoaderOptions;
use crate::config::ModelConfig;
use crate::model::Runtime;
use verdicts::Verdicts;
use wire::Job;

/// How versions are validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationOptions {
    /// Bytes of memory that a child may use beyond what the version's own files take.
    pub memory: u64,
    /// How long a child may take, by the clock.
    pub time: Duration,
    /// A private folder in which versions found good are remembered; `None` validates each load.
    pub verdicts: Option<PathBuf>,
}

/// Tries the version out, unless one of the same content is remembered as good. It blocks for as long as
/// a validation may take.
///
/// # Errors
/// The reason, for the operator.
pub(super) fn validate(
    content: &Content,
    settings: &ModelConfig,
    runtime: &Runtime,
    options: &LoaderOptions,
) -> Result<(), String> {
    let Some(validation) = &options.validation else {
        return Ok(());
    };
    let started = Instant::now();
    let job = Job::new(content, settings, runtime.options(), options)?;
    let verdicts = validation.verdicts.as_deref().and_then(Verdicts::open);
    let known = verdicts.as_ref().map(|verdicts| (verdicts, verdicts::key(&job, runtime)));
    let remembered = known.as_ref().and_then(|(verdicts, key)| verdicts.find(key));
    let is_remembered = remembered.is_some();
    let warnings = match remembered {
        Some(warnings) => warnings,
        None => {
            let fate = process::run(&job, runtime.library(), validation)?;
            let warnings = outcome::judge(fate, &content.model_path, validation)?;
            if let Some((verdicts, key)) = &known {
                verdicts.remember(key, &warnings);
            }
            warnings
        }
    };
    let (model, version) = (content.model.as_str(), content.version.as_str());
    for warning in &warnings {
        tracing::warn!(model, version, warning, "the version was validated, but");
    }
    let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(model, version, milliseconds, remembered = is_remembered, "validated");
    Ok(())
}
