//! `nuke check`: everything that `nuke serve` would do before its first request, with all problems
//! at once.
//!
//! Owns the report. It listens nowhere.

use std::process::ExitCode;
use std::sync::Arc;

use super::flags::HostFlags;
use super::{Failure, host};
use crate::auth::Authority;
use crate::config::{Loaded, ServerConfig};
use crate::repository::{ModelIndex, VersionStatus, find_sources, load_all};
use crate::telemetry::{LogOptions, start_logging};

/// The versions' own faults are in the report.
const QUIET_ABOUT_VERSIONS: &str = "error,nuke_host=warn,nuke_host::repository::startup=off";

pub(super) fn run(flags: &HostFlags) -> ExitCode {
    let loaded = match flags.load() {
        Ok(loaded) => loaded,
        Err(failure) => return failure.report(),
    };
    if flags.print_config {
        println!("{}", loaded.report.to_yaml().trim_end());
    }
    check(&loaded).unwrap_or_else(|failure| failure.report())
}

fn check(loaded: &Loaded<ServerConfig>) -> Result<ExitCode, Failure> {
    let (config, exposure) = (&loaded.value, loaded.check_exposure().err());
    // What is passed over, or done without, is said on standard error.
    let options = LogOptions { json: Some(false), filter: QUIET_ABOUT_VERSIONS.to_owned() };
    let _log = start_logging(&options).map_err(Failure::config)?;
    if let Some(problem) = &exposure {
        println!("FAILED  configuration: {problem}");
    }
    let keys = Authority::open(&config.auth).err();
    if let Some(problem) = &keys {
        println!("FAILED  configuration: {problem}");
    }
    let decisions = host::decisions(config);
    let sources =
        find_sources(&config.repository.models, &config.models, &decisions).map_err(Failure::config)?;
    if sources.is_empty() {
        println!("no model in {}", config.repository.models.display());
    }
    let loader = Arc::new(host::loader(config)?);
    let tls = host::tls_options(config, &loader.metrics).err();
    if let Some(failure) = &tls {
        println!("FAILED  configuration: {}", failure.message);
    }
    let index = Arc::new(ModelIndex::new(decisions));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::unavailable)?;
    let (ready, failed) = runtime.block_on(load_all(&loader, &index, sources));
    for (model, found) in index.all().iter() {
        for (version, status) in &found.versions {
            match status {
                VersionStatus::Failed(failure) => {
                    for line in failure.reason.lines() {
                        println!("FAILED  {model} {version}: {line}");
                    }
                }
                _ => println!("ok      {model} {version}"),
            }
        }
    }
    println!("{ready} ready, {failed} failed");
    let fine = failed == 0 && exposure.is_none() && tls.is_none() && keys.is_none();
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
